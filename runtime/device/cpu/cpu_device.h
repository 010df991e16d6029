// The CPU as a device. Both tiers can be one: the slow tier always is, the fast tier is a second
// one where there is no GPU, so that the split, the hand-over and the merge are the same code
// everywhere.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/core/aligned_buffer.h"
#include "runtime/device/cpu/cpu_attention.h"
#include "runtime/device/cpu/cpu_ffn.h"
#include "runtime/device/cpu/cpu_gemm.h"
#include "runtime/device/cpu/cpu_limits.h"
#include "runtime/device/cpu/cpu_rows.h"
#include "runtime/device/device.h"

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
  std::unique_ptr<KvCache> MakeKvCache(const ModelConfig& config, DType dtype,
                                       int64_t n_pages) override;

  void Embed(const Lane& lane, const TensorView& table, std::span<const int32_t> ids,
             float* x) override;
  void RmsNorm(const Lane& lane, const float* x, const float* weight, float eps, int64_t n,
               int64_t d, float* out) override;
  void Linear(const Lane& lane, std::span<const LinearOp> ops, const float* x, int64_t n) override;
  void RopeAppend(const Lane& lane, const RopeOp& rope, const KvCache& cache, const AttentionOp& op,
                  float* q, float* k, const float* v) override;
  void Attend(const Lane& lane, const KvCache& cache, const AttentionOp& op, const float* q,
              float* out) override;
  FfnCount Ffn(const Lane& lane, const FfnOp& op, const float* x, int64_t n,
               const FfnState& state) override;
  void Add(const Lane& lane, float* x, std::span<const float* const> ys, int64_t n) override;
  void AddRmsNorm(const Lane& lane, float* x, const float* y, const float* weight, float eps,
                  int64_t n, int64_t d, float* out) override;

 private:
  const KernelTable& kernels_;
  std::string name_;
  CpuRows rows_;
  CpuGemm gemm_;
  CpuAttention attention_;
  CpuFfn ffn_;
  std::vector<AlignedBuffer> blocks_;  // what Allocate hands out
  uint64_t block_used_ = 0;            // bytes used of the last block
  uint64_t allocated_bytes_ = 0;
};

}  // namespace thermocline
