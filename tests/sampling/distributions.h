// Draws, and what they should be distributed like.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <map>
#include <vector>

#include "runtime/sampling/sampler.h"

namespace thermocline {

// Turns every filter off, which leaves the plain softmax at temperature 1.
inline SamplerOptions Plain() {
  SamplerOptions options;
  options.temperature = 1;
  options.top_k = 0;
  options.top_p = 1;
  options.min_p = 0;
  return options;
}

inline std::map<int32_t, int> DrawMany(const SamplerOptions& options,
                                       const std::vector<float>& logits, int n,
                                       const std::vector<int32_t>& history = {}) {
  Sampler sampler(options);
  for (const int32_t id : history) sampler.Accept(id);
  std::map<int32_t, int> counts;
  for (int i = 0; i < n; ++i) ++counts[sampler.Sample(logits)];
  return counts;
}

// Makes Pearson's chi-square test against probabilities that are given for every token that may be
// drawn. The bound is the 99.99 % quantile, by Wilson and Hilferty's approximation. The seed is
// fixed, so a test that passes goes on passing.
inline void ExpectDistribution(const std::map<int32_t, int>& counts,
                               const std::map<int32_t, double>& probabilities) {
  double n = 0;
  for (const auto& [id, count] : counts) {
    EXPECT_TRUE(probabilities.count(id)) << "token " << id << " must not be drawn";
    n += count;
  }
  double chi_square = 0;
  for (const auto& [id, p] : probabilities) {
    const double expected = n * p;
    const double found = counts.count(id) ? counts.at(id) : 0;
    chi_square += (found - expected) * (found - expected) / expected;
  }
  const auto df = static_cast<double>(probabilities.size() - 1);
  if (df == 0) return;
  const double z = 3.719;
  const double bound = df * std::pow(1 - 2 / (9 * df) + z * std::sqrt(2 / (9 * df)), 3);
  EXPECT_LT(chi_square, bound);
}

// Returns logits whose softmax is exactly these probabilities.
inline std::vector<float> LogitsOf(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  logits.reserve(probabilities.size());
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p)));
  return logits;
}

}  // namespace thermocline
