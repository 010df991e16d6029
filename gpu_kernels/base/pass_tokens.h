// How kernels learn which tokens a pass has; for .cu files.
#pragma once

#include "gpu_kernels/base/cuda_api.h"
#include "gpu_kernels/base/pass_inputs.h"

namespace thermocline {

struct PassRange {
  int n_tokens;
  int first_position;
};

// The same for all threads of the grid.
__device__ inline PassRange RangeOf(const GpuPassTokens& tokens) {
  if (tokens.inputs == nullptr) return {tokens.n_tokens, tokens.first_position};
  return {min(tokens.inputs->n_tokens, tokens.n_tokens), tokens.inputs->first_position};
}

}  // namespace thermocline
