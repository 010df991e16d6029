// What a norm does to a row.
#pragma once

#include <cstdint>

namespace thermocline {

enum class GpuNormKind : uint8_t {
  kRms,    // x / sqrt(mean of x^2 + epsilon) * weight (+ bias) (arXiv:1910.07467)
  kLayer,  // (x - mean) / sqrt(variance + epsilon) * weight (+ bias) (arXiv:1607.06450)
};

// weight, bias: as many f32 as a row has, in memory the GPU sees. No weight: rows stay as they are.
struct GpuNorm {
  GpuNormKind kind = GpuNormKind::kRms;
  const float* weight = nullptr;
  const float* bias = nullptr;  // or null
  float epsilon = 0;
};

}  // namespace thermocline
