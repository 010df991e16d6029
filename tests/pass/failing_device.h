// A CPU device whose FFN fails when told to.
#pragma once

#include <memory>
#include <string>

#include "runtime/core/error.h"
#include "runtime/device/cpu/cpu_device.h"
#include "runtime/device/row_exchange.h"

namespace thermocline {

// A CPU device whose FFN throws on one lane, in the call it was told.
class FailingDevice final : public Device {
 public:
  FailingDevice(const std::string& name, const CpuDeviceLimits& limits) : inner_(name, limits) {}
  void FailAtCall(int call) { calls_left_ = call; }

  const std::string& name() const override { return inner_.name(); }
  void* Allocate(uint64_t n_bytes, const std::string& purpose) override {
    return inner_.Allocate(n_bytes, purpose);
  }
  void Upload(void* destination, const void* source, uint64_t n_bytes) override {
    inner_.Upload(destination, source, n_bytes);
  }
  uint64_t allocated_bytes() const override { return inner_.allocated_bytes(); }
  TensorView StoreRows(const TensorView& source, std::span<const int32_t> rows,
                       const std::string& purpose) override {
    return inner_.StoreRows(source, rows, purpose);
  }
  std::unique_ptr<RowExchange> MakeRowExchange(const RowExchangeLimits& limits) override {
    return inner_.MakeRowExchange(limits);
  }
  std::unique_ptr<KvCache> MakeKvCache(const ModelConfig& config, DType dtype,
                                       const KvLayout& layout, size_t tier) override {
    return inner_.MakeKvCache(config, dtype, layout, tier);
  }
  void Embed(const Lane& lane, const TensorView& table, std::span<const int32_t> ids,
             float* x) override {
    inner_.Embed(lane, table, ids, x);
  }
  void AddPositions(const Lane& lane, const TensorView& table, const Batch& batch, int64_t offset,
                    float* x) override {
    inner_.AddPositions(lane, table, batch, offset, x);
  }
  void Norm(const Lane& lane, const NormOp& norm, const float* x, int64_t n, int64_t d,
            float* out) override {
    inner_.Norm(lane, norm, x, n, d, out);
  }
  void Linear(const Lane& lane, std::span<const LinearOp> ops, const float* x, int64_t n) override {
    inner_.Linear(lane, ops, x, n);
  }
  void AddLowRank(const Lane& lane, const AdapterRows& rows,
                  std::span<const AttentionLowRank> adapters, std::span<const LowRankOp> ops,
                  const float* x, int64_t n, int64_t d_in) override {
    inner_.AddLowRank(lane, rows, adapters, ops, x, n, d_in);
  }
  void RopeAppend(const Lane& lane, const RopeOp& rope, const KvCache& cache, const AttentionOp& op,
                  float* q, float* k, const float* v) override {
    inner_.RopeAppend(lane, rope, cache, op, q, k, v);
  }
  void Attend(const Lane& lane, const KvCache& cache, const AttentionOp& op, const float* q,
              float* out) override {
    inner_.Attend(lane, cache, op, q, out);
  }
  KvReads ReadsOf(const AttentionOp& op) const override { return inner_.ReadsOf(op); }
  FfnCount Ffn(const Lane& lane, const FfnOp& op, const float* x, int64_t n,
               const FfnState& state) override {
    if (lane.rank == 0 && calls_left_ > 0 && --calls_left_ == 0) {
      throw Error({.what = name() + " failed"});
    }
    return inner_.Ffn(lane, op, x, n, state);
  }
  void Add(const Lane& lane, float* x, std::span<const float* const> ys, int64_t n) override {
    inner_.Add(lane, x, ys, n);
  }
  void AddNorm(const Lane& lane, const NormOp& norm, float* x, const float* y, int64_t n, int64_t d,
               float* out) override {
    inner_.AddNorm(lane, norm, x, y, n, d, out);
  }
  void AddBias(const Lane& lane, float* x, const float* bias, int64_t n, int64_t d) override {
    inner_.AddBias(lane, x, bias, n, d);
  }
  void Scale(const Lane& lane, float* x, float scale, float soft_cap, int64_t n) override {
    inner_.Scale(lane, x, scale, soft_cap, n);
  }
  void AddTableRows(const Lane& lane, const TensorView& table, std::span<const int32_t> ids,
                    float scale, float* x) override {
    inner_.AddTableRows(lane, table, ids, scale, x);
  }
  void MultiplyRows(const Lane& lane, const float* x, const float* by, int64_t n, int64_t d,
                    float* out) override {
    inner_.MultiplyRows(lane, x, by, n, d, out);
  }
  void ActivateMultiply(const Lane& lane, Activation activation, float* x, const float* by,
                        int64_t by_stride, int64_t n, int64_t d) override {
    inner_.ActivateMultiply(lane, activation, x, by, by_stride, n, d);
  }
  void MatchRms(const Lane& lane, const float* like, int64_t n, int64_t d, float* x) override {
    inner_.MatchRms(lane, like, n, d, x);
  }
  void PredictStreams(const Lane& lane, const StreamsOp& op, int64_t n, int64_t d,
                      float* x) override {
    inner_.PredictStreams(lane, op, n, d, x);
  }
  void CorrectStreams(const Lane& lane, const StreamsOp& op, int64_t n, int64_t d,
                      const float* x) override {
    inner_.CorrectStreams(lane, op, n, d, x);
  }

 private:
  CpuDevice inner_;
  int calls_left_ = 0;
};

}  // namespace thermocline
