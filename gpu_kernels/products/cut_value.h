// GpuRowCut as a kernel applies it; for .cu files.
#pragma once

#include "gpu_kernels/base/cuda_api.h"
#include "gpu_kernels/products/channel_cut.h"

namespace thermocline {

__device__ inline bool IsCut(const GpuRowCut& cut, int64_t token) {
  return cut.rows != nullptr && cut.rows[token].position >= cut.first_position;
}

// Of a token that is cut.
__device__ inline float CutValue(const GpuRowCut& cut, int64_t channel, float value) {
  const float factor = cut.factors == nullptr ? 1.0f : cut.factors[channel];
  return fabsf(value) * factor < cut.least ? 0.0f : value;
}

}  // namespace thermocline
