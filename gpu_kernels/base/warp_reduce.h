// Sums and maxima over the threads of a warp and of a block; for .cu files.
#pragma once

#include "gpu_kernels/base/shared_memory.h"

namespace thermocline {

constexpr unsigned kFullWarpMask = 0xffffffffu;
constexpr int kWarpThreads = 32;

// The sum over the warp, in every lane and the same bits in each. All 32 lanes call it.
template <typename T>
__device__ inline T WarpSum(T value) {
  for (int distance = kWarpThreads / 2; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(kFullWarpMask, value, distance);
  }
  return value;
}

// Returns the maximum over the warp, in each lane.
__device__ inline float WarpMax(float value) {
  for (int distance = kWarpThreads / 2; distance > 0; distance /= 2) {
    value = fmaxf(value, __shfl_xor_sync(kFullWarpMask, value, distance));
  }
  return value;
}

// The sum over the block, in every thread. All threads call it. partial: one element per warp; free
// to be written again after the block's next barrier. REQUIRES: blockDim.y == blockDim.z == 1,
// blockDim.x a multiple of 32.
__device__ inline float BlockSum(float value, const SharedSpan<float>& partial) {
  const unsigned warp = threadIdx.x / kWarpThreads;
  const unsigned lane = threadIdx.x % kWarpThreads;
  const unsigned n_warps = blockDim.x / kWarpThreads;
  value = WarpSum(value);
  if (lane == 0) partial[warp] = value;
  __syncthreads();
  return WarpSum(lane < n_warps ? static_cast<float>(partial[lane]) : 0.0f);
}

}  // namespace thermocline
