// How often neurons fired of late: saturating counters of 16 bits (Hermes, arXiv:2502.16963) whose
// content decays by the token.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace thermocline {

class HeatCounters {
 public:
  // half_life_tokens: after so many tokens a token counts half. REQUIRES: it is at least 1.
  HeatCounters(int64_t n_neurons, double half_life_tokens);

  // Takes n_tokens tokens, of which neuron i was active in fired[i]. fired: (n_neurons).
  void Add(std::span<const uint32_t> fired, int64_t n_tokens);
  // The share of the recent tokens in which neuron i was active, from 0 to 1.
  double Share(int64_t i) const;
  // How many tokens the shares rest on: those seen, the older the less.
  double weight() const { return weight_; }
  void Swap(int64_t i, int64_t j) {
    std::swap(heat_[static_cast<size_t>(i)], heat_[static_cast<size_t>(j)]);
  }
  int64_t n_neurons() const { return static_cast<int64_t>(heat_.size()); }

 private:
  double keep_;  // of a token's count, from one token to the next
  double step_;  // what a token adds to the counter of an active neuron
  double weight_ = 0;
  std::vector<uint16_t> heat_;  // (n_neurons)
};

}  // namespace thermocline
