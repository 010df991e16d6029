// A knapsack of choices: of every group one item is taken, so that the costs' sum is least and two
// capacities hold (the multiple-choice knapsack). Costs need not be convex in anything.
//
// It is solved exactly. A Lagrangian relaxation with a price per byte of each capacity gives a
// bound from below; it also leaves few items per group that a better solution than the best known
// can contain (Dyer, Kayal and Walker's reduction), and dynamic programming over those, with
// dominated states left out, closes the gap.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace thermocline {

struct KnapsackItem {
  int64_t cost = 0;  // not negative, less than 2^50
  uint64_t fast_bytes = 0;
  uint64_t slow_bytes = 0;
};

struct KnapsackProblem {
  std::vector<std::vector<KnapsackItem>> groups;  // none empty
  uint64_t fast_capacity = 0;
  uint64_t slow_capacity = 0;
  int64_t tolerance = 0;  // a solution that costs so little more than the cheapest will do
};

struct KnapsackResult {
  std::vector<size_t> choice;  // by group; empty: there is nothing cheaper than the cutoff
  int64_t cost = 0;
  // No solution costs less. It is the cost, unless there is a tolerance or the search gave up
  // (which takes problems that are made for that).
  double lower_bound = 0;
};

// Finds the cheapest solution that costs less than `cutoff`. The same problem gives the same
// solution.
KnapsackResult SolveKnapsack(const KnapsackProblem& problem, int64_t cutoff);

}  // namespace thermocline
