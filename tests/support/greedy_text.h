// Greedy text of two engines, compared by the rule of near-ties: at every token they take the same,
// or the reference's two best logits lie closer together than rounding moves a logit. Another order
// of summation and other roundings of quantised activations make such ties; a wrong kernel moves
// logits further than `max_noise`, which fails wherever it does.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "runtime/engine/engine.h"
#include "runtime/engine/evaluate.h"

namespace thermocline {

struct GreedyComparison {
  std::vector<int32_t> ids;  // ids that the reference takes
  int64_t near_ties = 0;     // tokens at which the other engine took another one
  double noise = 0;          // the largest change of a logit
};

// Feeds the prompt to each engine in one go, and then the reference's tokens one by one. max_noise:
// what a logit may change by.
inline GreedyComparison CompareGreedy(Engine& reference, Engine& other,
                                      std::span<const int32_t> prompt, int n_tokens,
                                      double max_noise) {
  GreedyComparison out;
  std::vector<int32_t> next(prompt.begin(), prompt.end());
  reference.Reset();
  other.Reset();
  for (int i = 0; i < n_tokens; ++i) {
    const auto expected = reference.Feed(next);
    const auto found = other.Feed(next);
    for (size_t j = 0; j < expected.size(); ++j) {
      const double change = std::abs(static_cast<double>(expected[j]) - found[j]);
      if (!(change <= out.noise)) out.noise = change;  // NaN stays visible
    }
    const BestToken best = FindBest(expected);
    if (FindBest(found).id != best.id) {
      ++out.near_ties;
      EXPECT_LE(best.margin, 2 * max_noise) << "token " << i;
    }
    out.ids.push_back(best.id);
    next = {best.id};
  }
  EXPECT_LE(out.noise, max_noise);
  return out;
}

}  // namespace thermocline
