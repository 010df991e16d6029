// Norms of one row by one block; for .cu files.
#pragma once

#include "gpu_kernels/base/warp_reduce.h"
#include "gpu_kernels/products/norm.h"

namespace thermocline {

inline constexpr int kNormThreads = 512;

// A thread's elements of a row are threadIdx.x, threadIdx.x + kNormThreads, ....

// Returns the sum of squares of this thread's elements.
__device__ inline float SumSquares(const float* row, int64_t width) {
  float sum = 0;
  for (int64_t i = threadIdx.x; i < width; i += kNormThreads) sum = fmaf(row[i], row[i], sum);
  return sum;
}

// row += y_0 + y_1, one after the other; either may be null. Returns the sum of squares after it.
__device__ inline float AddToRow(float* row, const float* y_0, const float* y_1, int64_t width) {
  float sum = 0;
  for (int64_t i = threadIdx.x; i < width; i += kNormThreads) {
    float x = row[i];
    if (y_0 != nullptr) x += y_0[i];
    if (y_1 != nullptr) x += y_1[i];
    row[i] = x;
    sum = fmaf(x, x, sum);
  }
  return sum;
}

// How the elements of a row become those of its norm.
struct RowNorm {
  const float* weight;  // null: they stay
  const float* bias;    // or null
  float mean;           // 0 where it is not taken off
  float scale;

  __device__ float Of(float x, int64_t i) const {
    if (weight == nullptr) return x;
    const float y = (x - mean) * scale * weight[i];
    return bias == nullptr ? y : y + bias[i];
  }
};

// From every thread's sum of squares, which a layer norm does not look at. All threads of the block
// call it, once in a kernel.
__device__ inline RowNorm NormOfRow(const GpuNorm& norm, const float* row, float sum_squares,
                                    int64_t width) {
  SHARED_ARRAY(float, sums, kWarpThreads);
  SHARED_ARRAY(float, squares, kWarpThreads);
  RowNorm made{norm.weight, norm.bias, 0.0f, 1.0f};
  if (norm.weight == nullptr) return made;
  const auto n = static_cast<float>(width);
  if (norm.kind == GpuNormKind::kLayer) {
    float sum = 0;
    for (int64_t i = threadIdx.x; i < width; i += kNormThreads) sum += row[i];
    made.mean = BlockSum(sum, sums) / n;
    sum_squares = 0;
    for (int64_t i = threadIdx.x; i < width; i += kNormThreads) {
      const float off = row[i] - made.mean;
      sum_squares = fmaf(off, off, sum_squares);
    }
  }
  const float mean_square = BlockSum(sum_squares, squares) / n;
  made.scale = 1.0f / sqrtf(mean_square + norm.epsilon);
  return made;
}

}  // namespace thermocline
