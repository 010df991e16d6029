#include "profiler/placement/split_solver.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <random>

#include "tests/profiler/split_problems.h"

namespace thermocline {
namespace {

TEST(SplitSolverTest, FindsWhatTryingEverySplitFinds) {
  std::mt19937 random(11);
  int n_found = 0;
  for (int i = 0; i < 1500; ++i) {
    const ProblemToSplit split =
        MakeProblemAtRandom({.n_layers = 1 + NumberUpTo(random, 3), .n_clusters = 4}, random);
    const SplitSolution solution = SolveSplit(split.problem);
    const std::optional<int64_t> best = BestByTrying(split.problem);
    ASSERT_EQ(solution.found, best.has_value()) << i;
    if (!best) continue;
    ++n_found;
    EXPECT_EQ(solution.picoseconds, *best) << i;
    EXPECT_EQ(solution.least_picoseconds, *best) << i;
    EXPECT_EQ(TimeOf(split.problem, solution.choice), solution.picoseconds) << i;
    EXPECT_TRUE(Keeps(split.problem, solution.choice)) << i;
  }
  EXPECT_GT(n_found, 700);
}

TEST(SplitSolverTest, IsNeverWorseThanGreedyUniformOrWholeLayers) {
  std::mt19937 random(12);
  int n_compared = 0;
  for (int i = 0; i < 60; ++i) {
    const ProblemToSplit split =
        MakeProblemAtRandom({.n_layers = 4 + NumberUpTo(random, 8), .n_clusters = 24}, random);
    const SplitSolution solution = SolveSplit(split.problem);
    for (const std::vector<size_t>& other : SimpleSplits(split.problem)) {
      ++n_compared;
      ASSERT_TRUE(solution.found) << i;
      EXPECT_LE(solution.picoseconds, TimeOf(split.problem, other)) << i;
    }
  }
  EXPECT_GT(n_compared, 60);
}

TEST(SplitSolverTest, MoreOfEitherBudgetIsNeverWorse) {
  std::mt19937 random(13);
  for (int i = 0; i < 20; ++i) {
    ProblemToSplit split = MakeProblemAtRandom({.n_layers = 6, .n_clusters = 16}, random);
    const uint64_t vram = split.problem.vram_bytes;
    int64_t last = INT64_MAX;
    for (int step = 0; step <= 10; ++step) {
      split.problem.vram_bytes = vram + vram * static_cast<uint64_t>(step) / 5;
      const SplitSolution solution = SolveSplit(split.problem);
      ASSERT_TRUE(solution.found || last == INT64_MAX);
      if (!solution.found) continue;
      EXPECT_LE(solution.picoseconds, last);
      last = solution.picoseconds;
    }
  }
}

// The shape of a 70B model: proven best, and no search that grows with the number of splits.
TEST(SplitSolverTest, EightyLayersOf448ClustersAreProvenBest) {
  std::mt19937 random(15);
  for (int i = 0; i < 4; ++i) {
    const ProblemToSplit split = MakeLargeSplit(80, 448, 0.2 + 0.2 * i, random);
    const SplitSolution solution = SolveSplit(split.problem);
    ASSERT_TRUE(solution.found);
    EXPECT_EQ(solution.least_picoseconds, solution.picoseconds);
    EXPECT_TRUE(Keeps(split.problem, solution.choice));
    EXPECT_LT(solution.n_searched, 2000);
    for (const std::vector<size_t>& other : SimpleSplits(split.problem)) {
      EXPECT_LE(solution.picoseconds, TimeOf(split.problem, other));
    }
  }
}

}  // namespace
}  // namespace thermocline
