// Products of few tokens on the CPU: weights are read row by row, once for all tokens.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cpu_kernels/kernels.h"
#include "runtime/core/aligned_buffer.h"
#include "runtime/device/cpu/cpu_limits.h"

namespace thermocline {

// Bytes from one to the next of several prepared vectors of up to d elements, in any form.
uint64_t PreparedVectorBytes(const KernelTable& kernels, int64_t d);

class CpuRows {
 public:
  CpuRows(const KernelTable& kernels, const CpuDeviceLimits& limits);
  static uint64_t Bytes(const KernelTable& kernels, const CpuDeviceLimits& limits);

  // Prepares x: (n, d), each token on its own, in memory of the lane. Token t lies at
  // t * PreparedStride(form, d) of what is returned. slot: 0 or 1, for two forms of one x.
  const std::byte* Prepare(const Lane& lane, VectorForm form, const float* x, int64_t n, int64_t d,
                           int slot = 0);
  int64_t PreparedStride(VectorForm form, int64_t d) const;
  // out_i = x W_i^T + bias_i. Collective, but for the meeting at the end.
  void Linear(const Lane& lane, std::span<const LinearOp> ops, const float* x, int64_t n);

 private:
  void MultiplyRows(const LinearOp& op, const std::byte* prepared, int64_t stride, int64_t n,
                    int64_t begin, int64_t end) const;

  const KernelTable& kernels_;
  std::vector<AlignedBuffer> prepared_;  // of each lane: up to MaxRowTokens activation vectors
  int64_t max_row_tokens_;
};

}  // namespace thermocline
