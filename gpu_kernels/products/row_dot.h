// Products of weight rows with vectors, a warp per row or several rows; for .cu files.
//
// In a step a lane reads 16 bytes of each row, or 8 (gpu_kernels/products/weight_layout.h), and as
// many elements of each vector; the warp reads 512 bytes in one stretch, or 256. The sum of a row
// and a vector is the same bits however many rows and vectors the warp has.
#pragma once

#include <type_traits>

#include "gpu_kernels/base/warp_reduce.h"
#include "gpu_kernels/products/activations.h"
#include "gpu_kernels/products/weight_words.h"
#include "runtime/core/dtype.h"

namespace thermocline {

// What a lane holds of a vector in a step (VectorWords), in f32.
template <DType kType>
struct FloatWords {
  static constexpr int kElements = LaneElements(kType);
  float values[kElements];

  __device__ void Load(const GpuVectors& x, int64_t token, int64_t step) {
    const float* const from = x.values + token * x.padded_cols + step * kElements;
#pragma unroll
    for (int i = 0; i < kElements; i += 4) {
      const float4 four = *reinterpret_cast<const float4*>(from + i);
      values[i] = four.x;
      values[i + 1] = four.y;
      values[i + 2] = four.z;
      values[i + 3] = four.w;
    }
  }
};

// What a lane holds of a vector in a step, in int8: 16 elements for Q8_0, 32 for other types.
template <DType kType>
struct QuantisedWords {
  static constexpr int kElements = LaneElements(kType);
  int quants[kElements / 4];
  float scale;

  __device__ void Load(const GpuVectors& x, int64_t token, int64_t step) {
    const int64_t at = token * x.padded_cols + step * kElements;
#pragma unroll
    for (int i = 0; i < kElements / 16; ++i) {
      const int4 four = *reinterpret_cast<const int4*>(x.quants + at + 16 * i);
      quants[4 * i] = four.x;
      quants[4 * i + 1] = four.y;
      quants[4 * i + 2] = four.z;
      quants[4 * i + 3] = four.w;
    }
    scale = x.scales[at / kQuantBlock];
  }
};
// What a lane holds of a vector in a step where weights have offsets: int8, and the sums of the
// elements that share one.
template <DType kType>
struct SummedWords : QuantisedWords<kType> {
  static constexpr int kSums = LaneScales(kType);
  float sums[kSums];

  __device__ void Load(const GpuVectors& x, int64_t token, int64_t step) {
    QuantisedWords<kType>::Load(x, token, step);
    constexpr int kWords = LaneElements(kType) / 4 / kSums;
#pragma unroll
    for (int s = 0; s < kSums; ++s) {
      int total = 0;
#pragma unroll
      for (int i = 0; i < kWords; ++i) {
        total = __dp4a(0x01010101, this->quants[s * kWords + i], total);
      }
      sums[s] = static_cast<float>(total) * this->scale;
    }
  }
};
template <DType kType>
using VectorWords = std::conditional_t<
    kHasOffset<kType>, SummedWords<kType>,
    std::conditional_t<kIsQuantised<kType>, QuantisedWords<kType>, FloatWords<kType>>>;

// Returns sum + the product of a step's weights and elements. Integers stay below 2^26: a weight's
// byte, an element and a scale have seven bits each, and 16 weights share a scale.
template <DType kType>
__device__ inline float AddProduct(float sum, const WeightWords<kType>& w,
                                   const VectorWords<kType>& x) {
  if constexpr (!kIsQuantised<kType>) {
#pragma unroll
    for (int i = 0; i < LaneElements(kType); ++i) sum = fmaf(w.Value(i), x.values[i], sum);
    return sum;
  } else {
    constexpr int kScales = LaneScales(kType);
    constexpr int kGroups = LaneElements(kType) / 4;
    int dots[kScales] = {};
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
      int& dot = dots[i * kScales / kGroups];
      dot = __dp4a(static_cast<int>(w.Bytes(i)), x.quants[i], dot);
    }
    if constexpr (kHasOffset<kType>) {
#pragma unroll
      for (int s = 0; s < kScales; ++s) sum = fmaf(w.Offset(s), x.sums[s], sum);
    }
    const float unit = x.scale * kByteUnit<kType>;
    if constexpr (kScales == 1) {
      return fmaf(static_cast<float>(dots[0]), w.Scaled(unit), sum);
    } else {
      const int dot = dots[0] * w.Scale(0) + dots[1] * w.Scale(1);
      return fmaf(static_cast<float>(dot), w.Common(unit), sum);
    }
  }
}

// Loads of weights that a lane issues before it needs the first.
constexpr int kStepsInFlight = 4;

// sums[r][t] = rows[r] . x[t], summed over `n_warps` warps. This warp takes steps part, part +
// n_warps ... of the row; a warp's step is 32 lanes' steps. Tokens from n_tokens on count as the
// last. rows may hold one row several times. All 32 lanes call it; every lane gets the sums of its
// own part.
template <DType kType, int kRows, int kTokens>
__device__ inline void DotRows(const std::byte* const (&rows)[kRows], const GpuVectors& x,
                               int64_t n_tokens, int part, int n_warps,
                               float (&sums)[kRows][kTokens]) {
  // How many steps are in flight at once. Each takes a lane's bytes of each row.
  constexpr int kBatch = kTokens == 1 ? kStepsInFlight / kRows : 1;
  const int n_steps = static_cast<int>(x.padded_cols / LaneElements(kType));
  const int stride = n_warps * kWarpThreads;
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int t = 0; t < kTokens; ++t) sums[r][t] = 0;
  }
  for (int first = part * kWarpThreads + lane; first < n_steps; first += kBatch * stride) {
    // These loads depend on nothing. Behind the end the last step is loaded again and not used.
    WeightWords<kType> w[kBatch][kRows];
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      const int step = min(first + b * stride, n_steps - 1);
#pragma unroll
      for (int r = 0; r < kRows; ++r) w[b][r].Load(rows[r], x.padded_cols, step);
    }
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      const bool real = first + b * stride < n_steps;
      const int step = min(first + b * stride, n_steps - 1);
#pragma unroll
      for (int t = 0; t < kTokens; ++t) {
        VectorWords<kType> vector;
        vector.Load(x, t < n_tokens ? t : n_tokens - 1, step);
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          const float sum = AddProduct<kType>(sums[r][t], w[b][r], vector);
          sums[r][t] = real ? sum : sums[r][t];
        }
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int t = 0; t < kTokens; ++t) sums[r][t] = WarpSum(sums[r][t]);
  }
}

}  // namespace thermocline
