// RMS normalisation of one row by one block; for .cu files.
#pragma once

#include "gpu_kernels/base/warp_reduce.h"

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

// out = row * weight / sqrt(mean of squares + epsilon), from every thread's sum of squares. out may
// be row. partial is scratch as BlockSum wants it.
__device__ inline void NormRow(float* out, const float* row, const float* weight, float epsilon,
                               int64_t width, float sum_squares, const SharedSpan<float>& partial) {
  const float mean = BlockSum(sum_squares, partial) / static_cast<float>(width);
  const float scale = 1.0f / sqrtf(mean + epsilon);
  for (int64_t i = threadIdx.x; i < width; i += kNormThreads) out[i] = row[i] * scale * weight[i];
}

}  // namespace thermocline
