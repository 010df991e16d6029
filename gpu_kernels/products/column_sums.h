// Sums of rows of weights, each times a number: what products with matrices stored by column are,
// such as an FFN's down projection with a row per neuron. For .cu files.
#pragma once

#include "gpu_kernels/base/shared_memory.h"
#include "gpu_kernels/base/warp_reduce.h"
#include "gpu_kernels/products/weight_words.h"

namespace thermocline {

constexpr int kColumnWarps = 8;  // of a block that adds rows

// Columns of a strip, which a warp takes.
__host__ __device__ constexpr int StripCols(DType dtype) {
  return LaneElements(dtype) * kWarpThreads;
}

struct RowsToAdd {
  const std::byte* w;
  int64_t row_bytes;
  int64_t padded_cols;
};

// Adds the rows of the lanes whose bits are set in mask, each times its h, to the lane's columns.
// Lane i brings h[t] of its row, which is row_of(i) for every lane that asks. A sum is a chain in
// the order of the lanes. Offsets, which are the same for many of a lane's columns, are summed
// apart. All lanes of a warp call it.
template <DType kType, int kTokens, typename RowOf>
__device__ inline void AddRows(const RowsToAdd& rows, unsigned mask, const float (&h)[kTokens],
                               const RowOf& row_of, int64_t lane_step,
                               float (&sums)[kTokens][LaneElements(kType)]) {
  // Rows in flight. For one token, four of Q5_K spill.
  constexpr int kBatch = kTokens > 1 ? 2 : kType == DType::kQ5_K ? 3 : 4;
  constexpr int kScales = LaneScales(kType);
  float offsets[kTokens][kScales] = {};
  int source = 0;
  while (mask != 0) {
    WeightWords<kType> w[kBatch];
    float factors[kBatch][kTokens];
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      // The last row is loaded again behind the last row, times 0.
      const bool real = mask != 0;
      if (real) source = __ffs(static_cast<int>(mask)) - 1;
      mask &= mask - 1;
      w[b].Load(rows.w + row_of(source) * rows.row_bytes, rows.padded_cols, lane_step);
#pragma unroll
      for (int t = 0; t < kTokens; ++t) {
        const float factor = __shfl_sync(kFullWarpMask, h[t], source);
        factors[b][t] = real ? factor : 0.0f;
      }
    }
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
#pragma unroll
      for (int t = 0; t < kTokens; ++t) {
        if constexpr (kHasOffset<kType>) {
#pragma unroll
          for (int s = 0; s < kScales; ++s) {
            offsets[t][s] = fmaf(factors[b][t], w[b].Offset(s), offsets[t][s]);
          }
        }
#pragma unroll
        for (int i = 0; i < LaneElements(kType); ++i) {
          const float factor = w[b].Scaled(factors[b][t], ScaleOf(kType, i));
          sums[t][i] = fmaf(factor, w[b].Value(i), sums[t][i]);
        }
      }
    }
  }
  if constexpr (kHasOffset<kType>) {
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
#pragma unroll
      for (int i = 0; i < LaneElements(kType); ++i) sums[t][i] += offsets[t][ScaleOf(kType, i)];
    }
  }
}

// Adds the warps' sums in their order and stores them: out: (n_tokens, padded_cols), of which
// blockIdx.x says the strip. All threads of the block call it. It takes a piece of kPiece columns
// of each lane at a time, so that shared memory does not limit how many blocks run.
template <DType kType, int kTokens>
__device__ inline void StorePartial(float* out, int64_t padded_cols, int64_t n_tokens,
                                    const float (&sums)[kTokens][LaneElements(kType)]) {
  constexpr int kElements = LaneElements(kType);
  constexpr int kPiece = kElements < 8 ? kElements : 8;
  constexpr int kLaneStride = kPiece + 1;  // odd: lanes write to different banks
  constexpr int kWarpStride = kWarpThreads * kLaneStride;
  SHARED_ARRAY(float, pieces, kColumnWarps* kWarpStride);
  const int warp = static_cast<int>(threadIdx.x) / kWarpThreads;
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int owner = static_cast<int>(threadIdx.x) / kPiece;  // whose column this thread adds up
  const int element = static_cast<int>(threadIdx.x) % kPiece;
#pragma unroll
  for (int t = 0; t < kTokens; ++t) {
    if (t >= n_tokens) break;  // for the whole block
#pragma unroll
    for (int first = 0; first < kElements; first += kPiece) {
#pragma unroll
      for (int i = 0; i < kPiece; ++i) {
        pieces[warp * kWarpStride + lane * kLaneStride + i] = sums[t][first + i];
      }
      __syncthreads();
      const int64_t col =
          int64_t{blockIdx.x} * StripCols(kType) + owner * kElements + first + element;
      if (owner < kWarpThreads && col < padded_cols) {
        float sum = 0;
        for (int w = 0; w < kColumnWarps; ++w) {
          sum += pieces[w * kWarpStride + owner * kLaneStride + element];
        }
        out[t * padded_cols + col] = sum;
      }
      __syncthreads();
    }
  }
}

}  // namespace thermocline
