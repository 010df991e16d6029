// The function between an FFN's gate and its product with up, or in a plain FFN with down.
#pragma once

#include <cstdint>

namespace thermocline {

enum class Activation : uint8_t {
  kSilu,      // x / (1 + e^-x)
  kRelu,      // max(0, x)
  kReluSqr,   // max(0, x)^2
  kGelu,      // x (1 + erf(x / sqrt(2))) / 2 (arXiv:1606.08415)
  kGeluTanh,  // its approximation by tanh
};

// Whether it maps a sizeable part of its inputs to exactly 0, so that neurons can be skipped.
constexpr bool HasTrueZeros(Activation activation) {
  return activation == Activation::kRelu || activation == Activation::kReluSqr;
}

}  // namespace thermocline
