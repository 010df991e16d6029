// Seeded values for tests of kernels.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

namespace thermocline {

// n values between -1 and 1.
inline std::vector<float> RandomValues(size_t n, uint32_t seed) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> values(n);
  for (float& value : values) value = uniform(generator);
  return values;
}

}  // namespace thermocline
