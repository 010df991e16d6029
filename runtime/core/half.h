// Scalar conversions between f32 and the two 16-bit formats, round to nearest even. Vector versions
// live in cpu_kernels; these serve loaders, tests and the plain C++ kernels.
#pragma once

#include <bit>
#include <cstdint>

namespace thermocline {

float F16ToF32(uint16_t bits);
uint16_t F32ToF16(float value);

inline float Bf16ToF32(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}
uint16_t F32ToBf16(float value);

}  // namespace thermocline
