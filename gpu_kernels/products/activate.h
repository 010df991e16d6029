// Activations, and which neurons a kernel works on; for .cu files.
#pragma once

#include "gpu_kernels/base/cuda_api.h"
#include "gpu_kernels/products/neuron_list.h"
#include "runtime/core/activation.h"

namespace thermocline {

__device__ inline float Activate(Activation activation, float x) {
  if (activation == Activation::kSilu) return x / (1.0f + expf(-x));  // x / inf is 0
  const float positive = x < 0 ? 0.0f : x;                            // NaN stays NaN
  return activation == Activation::kRelu ? positive : positive * positive;
}

// The p-th of a layer's neurons, in the list's order.
__device__ inline int64_t NeuronAt(const GpuNeuronList& list, int64_t p) {
  return list.rows == nullptr ? p : list.rows[p];
}
// Returns the tokens that want the neuron, as bits.
__device__ inline unsigned WantedBy(const GpuNeuronList& list, int64_t p) {
  if (list.count == nullptr) return ~0u;
  if (p >= *list.count) return 0;
  return list.masks == nullptr ? ~0u : list.masks[p];
}

}  // namespace thermocline
