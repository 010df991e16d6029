// Inputs of matrices of which small channels are left out, and products with matrices stored by
// column, which then read a row of memory per channel that is left.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cpu_kernels/kernels.h"
#include "runtime/core/aligned_buffer.h"
#include "runtime/device/cpu/cpu_limits.h"

namespace thermocline {

class CpuChannels {
 public:
  CpuChannels(const KernelTable& kernels, const CpuDeviceLimits& limits);
  static uint64_t Bytes(const CpuDeviceLimits& limits);

  // Returns x with 0 for the channels that are left out, in memory of the lane; x itself where
  // nothing is. Not collective, but every lane of a pass must call it. slot: 0 or 1, of two that
  // are wanted at a time. x: (n, d). REQUIRES: n <= kFewTokens where something is cut.
  const float* CutRows(const Lane& lane, const ChannelCut* cut, const float* x, int64_t n,
                       int64_t d, int slot = 0);
  // Returns the same in memory that all lanes share, which the next call overwrites. Collective.
  // out: where to write it, or null.
  const float* CutBatch(const Lane& lane, const ChannelCut* cut, const float* x, int64_t n,
                        int64_t d, float* out = nullptr);
  // out_i = x W_i^T + bias_i for matrices by column. Sums are cut into parts by channels, which are
  // added in their order: results are the same bits for any number of lanes, and whether channels
  // that are 0 are left out or not. Collective, but for the meeting at the end.
  // REQUIRES: n < kGemmMinTokens.
  void Linear(const Lane& lane, std::span<const LinearOp> ops, const float* x, int64_t n);

  // Writes the channels in [begin, end) that a cut row keeps, ascending, and their values; counts
  // them. Returns how many. x: of the row. rows: room for 16 more than end - begin.
  int64_t Keep(const ChannelCut& cut, const float* x, int64_t begin, int64_t end, int32_t* rows,
               float* kept) const;

 private:
  // How a product is cut into tasks: stripes of outputs, and parts of the channels.
  struct Grid {
    int64_t n_stripes = 1;
    int64_t n_parts = 1;
    int64_t n_tasks() const { return n_stripes * n_parts; }
  };
  static Grid GridOf(const LinearWeights& weights, int64_t n_products, int64_t n_lanes);
  struct LaneScratch {
    AlignedBuffer x[2];  // (kFewTokens, max_d_in) f32: CutRows
    AlignedBuffer kept;  // (max_d_in) f32
    AlignedBuffer rows;  // (max_d_in + 16) i32
  };
  void RunTask(const Lane& lane, const LinearOp& op, const Grid& grid, int64_t task, const float* x,
               int64_t n, float* partial);
  // Writes outputs [begin, end) of n tokens as the sums of their parts.
  void AddParts(const LinearOp& op, const Grid& grid, int64_t begin, int64_t end, int64_t n,
                const float* partial) const;
  void CountKept(const ChannelCut& cut, const float* x, int64_t n, int64_t d) const;

  const KernelTable& kernels_;
  std::vector<LaneScratch> lanes_;
  AlignedBuffer batch_;    // (max_tokens, max_d_in) f32: CutBatch
  AlignedBuffer partial_;  // of the products of one call, (n_parts, n, d_out) each
};

}  // namespace thermocline
