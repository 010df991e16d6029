// Random numbers that are the same on every machine: the generator and the mapping to [0, 1) are
// fixed here and not left to the C++ library.
#pragma once

#include <cstdint>

namespace thermocline {

class Random {
 public:
  explicit Random(uint64_t seed);
  double Uniform();  // [0, 1)

 private:
  uint64_t state_[4];
};

}  // namespace thermocline
