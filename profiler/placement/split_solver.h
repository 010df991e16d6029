// Chooses how many neurons of each layer go to the fast tier so that a pass takes the least time
// that the budgets allow.
//
// Each layer has choices, with a time and the bytes each takes on both tiers: clusters of 32
// neurons one after the other, and where attention may lie on either tier, each with both.
// What a tier holds besides (KV cache, scratch) depends on the largest share that a layer has in
// it, since the FFN's buffers are sized for that layer. So the limits on the shares are searched,
// too, by branch and bound: within a range of limits the least that the tiers hold besides is
// known, which bounds the time; ranges that cannot beat the best solution known are left out, the
// others are halved.
//
// The solution is the best there is, or as near to it as one asks; with no tolerance more of either
// budget never makes it worse.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace thermocline {

struct SplitChoice {
  int64_t n_hot = 0;
  int64_t n_cold = 0;
  int64_t picoseconds = 0;
  uint64_t fast_bytes = 0;
  uint64_t slow_bytes = 0;
  bool attends_away = false;  // for who made the choice; the solver does not look at it
};

struct SplitProblem {
  std::vector<std::vector<SplitChoice>> layers;
  // What a tier holds besides when no layer has more than this in it; not decreasing.
  std::function<uint64_t(int64_t max_hot)> fast_fixed_bytes;
  std::function<uint64_t(int64_t max_cold)> slow_fixed_bytes;
  uint64_t vram_bytes = 0;
  uint64_t ram_bytes = 0;
  int64_t tolerance_picoseconds = 0;  // a split that takes so little more than the best will do
};

struct SplitSolution {
  bool found = false;          // false: the budgets are too small
  std::vector<size_t> choice;  // (n_layers)
  int64_t picoseconds = 0;
  // No split takes less. It is the time, unless there is a tolerance or the search gave up.
  int64_t least_picoseconds = 0;
  int64_t n_searched = 0;  // ranges of limits
};

SplitSolution SolveSplit(const SplitProblem& problem);

}  // namespace thermocline
