// Activations, and which neurons a kernel works on; for .cu files.
#pragma once

#include "gpu_kernels/base/cuda_api.h"
#include "gpu_kernels/products/activation.h"
#include "gpu_kernels/products/neuron_list.h"

namespace thermocline {

// ReLU, from a threshold on. NaN stays NaN.
__device__ inline float DropBelow(float x, float threshold) { return x < threshold ? 0.0f : x; }

__device__ inline float Activate(const GpuActivation& activation, float x) {
  const float positive = DropBelow(x, 0);
  switch (activation.function) {
    case Activation::kSilu:
      return x / (1.0f + expf(-x));  // x / inf is 0
    case Activation::kRelu:
      return DropBelow(x, activation.threshold);
    case Activation::kReluSqr:
      return positive * positive;
    case Activation::kGelu:
      return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
    case Activation::kGeluTanh:
      return 0.5f * x * (1.0f + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
  }
  return x;
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
