// What lies between a neuron's gate and its h, as kernels take it.
#pragma once

#include "runtime/core/activation.h"

namespace thermocline {

struct GpuActivation {
  Activation function = Activation::kSilu;
  float threshold = 0;   // of kRelu: what lies below becomes 0 (FATReLU, arXiv:2402.13516)
  bool relu_up = false;  // up goes through ReLU, too (dReLU, arXiv:2406.05955)
};

}  // namespace thermocline
