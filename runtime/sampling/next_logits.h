// What a token is chosen from.
#pragma once

#include <cstdint>
#include <span>

#include "runtime/core/token_logit.h"
#include "runtime/sampling/candidates.h"

namespace thermocline {

// All logits of a row, or the n_best best of them.
struct NextLogits {
  std::span<const float> all = {};
  std::span<const TokenLogit> best = {};
  int64_t n_best = 0;
};

// A token that a draft drew, and what it was drawn from: in the order of ids, each of a probability
// above 0, all of them 1. A token that was not drawn but chosen needs none of this: it is compared
// with what is sampled anyway.
struct Proposal {
  int32_t id = 0;
  std::span<const TokenChance> chances = {};
};

}  // namespace thermocline
