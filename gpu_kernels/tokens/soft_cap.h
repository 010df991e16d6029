// Soft caps of scores and logits (Gemma 2, arXiv:2408.00118); for .cu files.
#pragma once

#include "gpu_kernels/base/cuda_api.h"

namespace thermocline {

// Returns c tanh(x / c) for a cap c, and with a cap of 0 x as it is.
__device__ inline float SoftCapped(float x, float cap) {
  return cap == 0 ? x : cap * tanhf(x / cap);
}

}  // namespace thermocline
