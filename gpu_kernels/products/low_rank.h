// Low-rank adapters (LoRA, arXiv:2106.09685): to a matrix's product an adapter adds B (A x), for
// the rows of a pass that use it. A launch takes all adapters of several matrices, each for its own
// rows, as in Punica (arXiv:2310.18547): first what lies between, A x, then B of it.
//
// Which rows use which adapter is read from device memory, so that a captured graph serves passes
// whose rows use others. Blocks of an adapter that no row uses leave at once.
#pragma once

#include <cstdint>
#include <span>

#include "gpu_kernels/base/stream.h"

namespace thermocline {

// What an adapter adds to one matrix of (d_out, d_in). f32, on the GPU. The scale is part of B.
struct GpuLowRankFactors {
  int64_t rank = 0;          // 0: nothing
  const float* a = nullptr;  // (rank, d_in)
  const float* b = nullptr;  // (rank, d_out): a thread of an output reads beside its neighbours
};

// The matrices of all adapters that are added to one product.
struct GpuLowRankOp {
  std::span<const GpuLowRankFactors> adapters;  // (n_adapters)
  float* out = nullptr;                         // (n_rows, d_out) f32 on the GPU
  int64_t d_out = 0;
  float* inner = nullptr;  // (n_rows, sum of the ranks) f32 on the GPU: scratch
};

// Bit t % 32 of words[adapter * n_words + t / 32] says whether row t of the pass uses the adapter.
struct GpuAdapterRows {
  const uint32_t* words = nullptr;  // (n_adapters, n_words) on the GPU
  int64_t n_words = 0;
  int64_t n_rows = 0;
};
inline constexpr int64_t kGpuAdapterWordRows = 32;

enum class GpuLowRankInto : uint8_t {
  kAdd,      // out += sum over adapters of B (A x)
  kReplace,  // out = that; 0 in rows that use none. REQUIRES: of every op, an adapter with a rank
};

// Of each op; x: (n_rows, d_in) f32 on the GPU, which all ops read. A row's results are the same
// bits whatever other rows are there and use: sums are in the order of the adapters, of each in the
// order of its ranks. Asynchronous on `stream`; throws Error on launch.
void GpuAddLowRank(Stream& stream, std::span<const GpuLowRankOp> ops, const GpuAdapterRows& rows,
                   const float* x, int64_t d_in, GpuLowRankInto into);

}  // namespace thermocline
