#include "runtime/sampling/random.h"

#include <bit>

namespace thermocline {
namespace {

// Sebastiano Vigna's splitmix64: spreads a seed of few set bits over the generator's whole state.
uint64_t Splitmix64(uint64_t* state) {
  uint64_t z = (*state += 0x9E3779B97F4A7C15);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

// xoshiro256** 1.0 (Blackman and Vigna, arXiv:1805.01407).
uint64_t Xoshiro256(uint64_t state[4]) {
  const uint64_t result = std::rotl(state[1] * 5, 7) * 9;
  const uint64_t t = state[1] << 17;
  state[2] ^= state[0];
  state[3] ^= state[1];
  state[1] ^= state[2];
  state[0] ^= state[3];
  state[2] ^= t;
  state[3] = std::rotl(state[3], 45);
  return result;
}

}  // namespace

Random::Random(uint64_t seed) {
  for (uint64_t& word : state_) word = Splitmix64(&seed);
}

double Random::Uniform() { return static_cast<double>(Xoshiro256(state_) >> 11) * 0x1.0p-53; }

}  // namespace thermocline
