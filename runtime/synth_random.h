// Random bits of synthetic models: a function of a counter, so that any thread can make any part.
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

}  // namespace thermocline
