// The CPU as a device. Both tiers can be one: the slow tier always is, the fast tier is a second
// one where there is no GPU, so that the split, the hand-over and the merge are the same code
// everywhere.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/core/aligned_buffer.h"
#include "runtime/device/cpu/cpu_attention.h"
#include "runtime/device/cpu/cpu_channels.h"
#include "runtime/device/cpu/cpu_ffn.h"
#include "runtime/device/cpu/cpu_gemm.h"
#include "runtime/device/cpu/cpu_limits.h"
#include "runtime/device/cpu/cpu_low_rank.h"
#include "runtime/device/cpu/cpu_rows.h"
#include "runtime/device/device.h"
#include "runtime/device/row_exchange.h"

namespace thermocline {

class CpuDevice final : public Device {
 public:
  CpuDevice(std::string name, const CpuDeviceLimits& limits);

  const std::string& name() const override { return name_; }
  void* Allocate(uint64_t n_bytes, const std::string& purpose) override;
  void Upload(void* destination, const void* source, uint64_t n_bytes) override;
  uint64_t allocated_bytes() const override { return allocated_bytes_; }
  TensorView StoreRows(const TensorView& source, std::span<const int32_t> rows,
                       const std::string& purpose) override;
  std::unique_ptr<RowExchange> MakeRowExchange(const RowExchangeLimits& limits) override;
  std::unique_ptr<KvCache> MakeKvCache(const ModelConfig& config, DType dtype,
                                       const KvLayout& layout, size_t tier) override;

  void Embed(const Lane& lane, const TensorView& table, std::span<const int32_t> ids,
             float* x) override;
  void AddPositions(const Lane& lane, const TensorView& table, const Batch& batch, int64_t offset,
                    float* x) override;
  void Norm(const Lane& lane, const NormOp& norm, const float* x, int64_t n, int64_t d,
            float* out) override;
  void Linear(const Lane& lane, std::span<const LinearOp> ops, const float* x, int64_t n) override;
  void AddLowRank(const Lane& lane, const AdapterRows& rows,
                  std::span<const AttentionLowRank> adapters, std::span<const LowRankOp> ops,
                  const float* x, int64_t n, int64_t d_in) override;
  void RopeAppend(const Lane& lane, const RopeOp& rope, const KvCache& cache, const AttentionOp& op,
                  float* q, float* k, const float* v) override;
  void Attend(const Lane& lane, const KvCache& cache, const AttentionOp& op, const float* q,
              float* out) override;
  KvReads ReadsOf(const AttentionOp& op) const override { return attention_.ReadsOf(op); }
  FfnCount Ffn(const Lane& lane, const FfnOp& op, const float* x, int64_t n,
               const FfnState& state) override;
  void Add(const Lane& lane, float* x, std::span<const float* const> ys, int64_t n) override;
  void AddNorm(const Lane& lane, const NormOp& norm, float* x, const float* y, int64_t n, int64_t d,
               float* out) override;
  void AddBias(const Lane& lane, float* x, const float* bias, int64_t n, int64_t d) override;
  void Scale(const Lane& lane, float* x, float scale, float soft_cap, int64_t n) override;
  // ---- cpu_streams.cc ----
  void AddTableRows(const Lane& lane, const TensorView& table, std::span<const int32_t> ids,
                    float scale, float* x) override;
  void MultiplyRows(const Lane& lane, const float* x, const float* by, int64_t n, int64_t d,
                    float* out) override;
  void ActivateMultiply(const Lane& lane, Activation activation, float* x, const float* by,
                        int64_t by_stride, int64_t n, int64_t d) override;
  void MatchRms(const Lane& lane, const float* like, int64_t n, int64_t d, float* x) override;
  void PredictStreams(const Lane& lane, const StreamsOp& op, int64_t n, int64_t d,
                      float* x) override;
  void CorrectStreams(const Lane& lane, const StreamsOp& op, int64_t n, int64_t d,
                      const float* x) override;

 private:
  // One product of which channels are cut, or products by column.
  void LinearOfChannels(const Lane& lane, std::span<const LinearOp> ops, const float* x, int64_t n);

  const KernelTable& kernels_;
  std::string name_;
  CpuRows rows_;
  CpuLowRank low_rank_;
  CpuChannels channels_;
  CpuGemm gemm_;
  CpuAttention attention_;
  CpuFfn ffn_;
  std::vector<std::vector<float>> table_rows_;  // a lane's row of a table
  std::vector<AlignedBuffer> blocks_;           // what Allocate hands out
  uint64_t block_used_ = 0;                     // bytes used of the last block
  uint64_t allocated_bytes_ = 0;
};

}  // namespace thermocline
