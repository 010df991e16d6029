// Random bits of synthetic models. They are a function of a counter, so that any thread can make
// any part.
#pragma once

#include <cstdint>

namespace thermocline {

// The finaliser of splitmix64: every bit of the result depends on every bit of x.
inline uint64_t MixBits(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}

inline constexpr uint64_t kCounterStep = 0x9e3779b97f4a7c15U;  // odd, bits well spread

// Adds up four 16-bit uniforms of one draw, about 0. The sum lies between -2 and 2 and has variance
// 1/3, near enough to normal for weights, and takes a few nanoseconds.
inline float NearNormal(uint64_t bits) {
  constexpr float kUnit = 1.0F / 65536.0F;
  const auto sum = static_cast<float>((bits & 0xffff) + ((bits >> 16) & 0xffff) +
                                      ((bits >> 32) & 0xffff) + (bits >> 48));
  return sum * kUnit - 2.0F;
}

}  // namespace thermocline
