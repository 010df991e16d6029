// Low-rank adapters on the CPU (runtime/device/adapters.h). A x is computed once for each row of a
// pass and adapter; B is applied where the matrix's own product is at hand.
//
// With ranks of r in all, a matrix costs r (d_in + d_out) more of each row, and its weights stay as
// they are. What is computed for one element does not depend on how the lanes share the work out.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cpu_kernels/kernels.h"
#include "runtime/core/aligned_buffer.h"
#include "runtime/device/cpu/cpu_limits.h"

namespace thermocline {

class CpuLowRank {
 public:
  CpuLowRank(const KernelTable& kernels, const CpuDeviceLimits& limits);
  static uint64_t Bytes(const CpuDeviceLimits& limits);

  // Is what DeviceOps says of AddLowRank. Collective.
  void AddProducts(const Lane& lane, const AdapterRows& rows,
                   std::span<const AttentionLowRank> adapters, std::span<const LowRankOp> ops,
                   const float* x, int64_t n, int64_t d_in);

  // ---- of an FFN with adapters; REQUIRES: !op.adapters.empty() ----

  // Computes A x for gates and ups of n tokens; before any of what follows. Collective.
  void PrepareFfn(const Lane& lane, const FfnOp& op, const float* x, int64_t n);
  // What is added to the gates or to the ups.
  enum class Target : uint8_t { kGate, kUp };
  // out[i] += B (A x) of neurons rows[i] of one token for i in [begin, end); rows null: of neuron
  // i.
  void AddTo(int rank, const FfnOp& op, Target target, int64_t token, const int32_t* rows,
             int64_t begin, int64_t end, float* out);
  // sums += A h of down over n neurons of one token, of its adapters; h[i] of neuron rows[i], or
  // first + i. sums: (total_rank).
  void SumDown(const FfnOp& op, int64_t token, const float* h, const int32_t* rows, int64_t first,
               int64_t n, float* sums) const;
  // y[c] += B of down, applied to such sums, for c in [begin, end). y: (d_model).
  void AddDown(const FfnOp& op, int64_t token, const float* sums, int64_t begin, int64_t end,
               float* y) const;
  // y += B (A h) of down for n tokens, whose h of all neurons is at hand: (n, n_neurons). y: (n,
  // d_model). Collective.
  void AddDownOfAll(const Lane& lane, const FfnOp& op, const float* h, int64_t n, float* y);

 private:
  // What lies between A and B: that of `slot` (which matrix) and token begins there: (total_rank).
  float* inner(int64_t slot, int64_t token) {
    return inner_.as<float>() + (slot * max_tokens_ + token) * total_rank_;
  }
  float* added(int rank) { return added_.as<float>() + rank * added_stride_; }
  // Computes A x of one matrix of every adapter that rows use; the lane's part of A's rows.
  // factors(adapter): the matrix.
  template <typename Factors>
  void MultiplyA(const Lane& lane, const AdapterRows& rows, int64_t slot, const float* x,
                 int64_t d_in, const Factors& factors);

  const KernelTable& kernels_;
  int64_t max_tokens_;
  int64_t total_rank_;
  int64_t added_stride_;
  AlignedBuffer inner_;  // (kSlots, max_tokens, total_rank) f32
  AlignedBuffer
      added_;  // of each lane: what is added to some rows of a matrix, (longest d_out) f32
};

}  // namespace thermocline
