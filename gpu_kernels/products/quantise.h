// How 32 activations become int8 with a scale; for .cu files.
#pragma once

#include <cfloat>

#include "gpu_kernels/base/warp_reduce.h"
#include "gpu_kernels/products/activations.h"

namespace thermocline {

// Returns the largest |value| of the warp, in every lane; NaN if there is one. All 32 lanes call
// it.
__device__ inline float WarpMaxMagnitude(float value) {
  // As bits, magnitudes are ordered, and NaN lies above infinity.
  unsigned bits = __float_as_uint(value) & 0x7fffffffu;
  for (int distance = kWarpThreads / 2; distance > 0; distance /= 2) {
    bits = max(bits, __shfl_xor_sync(kFullWarpMask, bits, distance));
  }
  return __uint_as_float(bits);
}

// Stores block `block` of token `token`; lane i of the warp brings its element i. All 32 lanes call
// it.
__device__ inline void StoreBlock(const GpuVectors& out, int64_t token, int64_t block,
                                  float value) {
  const unsigned lane = threadIdx.x % kWarpThreads;
  const int64_t at = token * out.padded_cols + block * kWarpThreads + lane;
  const float largest = WarpMaxMagnitude(value);
  const bool finite = largest <= FLT_MAX;
  float scale = largest / 127.0f;
  // 1 / scale would overflow below this.
  if (scale < FLT_MIN) scale = 0;
  const float inverse = scale > 0 ? 1.0f / scale : 0.0f;
  out.values[at] = value;
  out.quants[at] = static_cast<int8_t>(finite ? __float2int_rn(value * inverse) : 0);
  if (lane == 0) {
    out.scales[(token * out.padded_cols) / kWarpThreads + block] =
        finite ? scale : __uint_as_float(0x7fc00000u);
  }
}

}  // namespace thermocline
