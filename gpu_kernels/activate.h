// Activations, and which neurons a kernel works on; for .cu files.
#pragma once

#include "gpu_kernels/cuda_api.h"
#include "gpu_kernels/neuron_list.h"
#include "runtime/core/activation.h"

namespace thermocline {

__device__ inline float Activate(Activation activation, float x) {
  if (activation == Activation::kSilu) return x / (1.0f + expf(-x));  // x / inf is 0
  const float positive = x < 0 ? 0.0f : x;                            // NaN stays NaN
  return activation == Activation::kRelu ? positive : positive * positive;
}

// How many neurons there are to compute, at most n_neurons, and which is the p-th.
__device__ inline int64_t CountOf(const GpuNeuronList& list, int64_t n_neurons) {
  return list.count == nullptr ? n_neurons : *list.count;
}
__device__ inline int64_t NeuronAt(const GpuNeuronList& list, int64_t p) {
  return list.rows == nullptr ? p : list.rows[p];
}

}  // namespace thermocline
