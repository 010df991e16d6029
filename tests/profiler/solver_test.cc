#include "profiler/placement/solver.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <optional>
#include <random>

#include "runtime/placement/placement.h"

namespace thermocline {
namespace {

struct Shape {
  int64_t d_ff = 0;
  size_t n_layers = 0;
  bool equal_sizes = true;  // neurons of all layers have the same bytes
};

uint64_t UpTo(std::mt19937& random, uint64_t most) { return random() % (most + 1); }

// Makes benefits that fall along each layer, and tiers whose own needs grow with the largest share.
SolverProblem RandomProblem(const Shape& shape, std::mt19937& random) {
  SolverProblem problem;
  problem.d_ff = shape.d_ff;
  const uint64_t bytes = 1 + UpTo(random, 9);
  const uint64_t growth = 1 + UpTo(random, 1);  // a neuron may take more on a GPU than in a file
  for (size_t l = 0; l < shape.n_layers; ++l) {
    SolverLayer layer;
    layer.slow_neuron_bytes = shape.equal_sizes ? bytes : 1 + UpTo(random, 9);
    layer.fast_neuron_bytes = growth * layer.slow_neuron_bytes;
    const uint64_t scale = UpTo(random, 100);
    for (int64_t i = 0; i < shape.d_ff; ++i) {
      layer.benefit.push_back(static_cast<int64_t>(UpTo(random, scale)));
    }
    std::sort(layer.benefit.begin(), layer.benefit.end(), std::greater<>());
    problem.layers.push_back(std::move(layer));
  }
  const uint64_t base = UpTo(random, 200);
  const uint64_t fast_slope = UpTo(random, 4);
  const uint64_t slow_slope = UpTo(random, 4);
  problem.fast_fixed_bytes = [=](int64_t n) {
    return base + fast_slope * static_cast<uint64_t>(n);
  };
  problem.slow_fixed_bytes = [=](int64_t n) { return slow_slope * static_cast<uint64_t>(n); };
  uint64_t all = base;
  for (const SolverLayer& layer : problem.layers) {
    all += (layer.fast_neuron_bytes + 5) * static_cast<uint64_t>(shape.d_ff);
  }
  problem.vram_bytes = UpTo(random, all);
  problem.ram_bytes = UpTo(random, all);
  return problem;
}

struct Use {
  uint64_t fast_bytes = 0;
  uint64_t slow_bytes = 0;
  int64_t benefit = 0;

  bool fits(const SolverProblem& problem) const {
    return fast_bytes <= problem.vram_bytes && slow_bytes <= problem.ram_bytes;
  }
};

Use UseOf(const SolverProblem& problem, const std::vector<int64_t>& n_hot) {
  const auto [least, most] = std::minmax_element(n_hot.begin(), n_hot.end());
  Use use;
  use.fast_bytes = problem.fast_fixed_bytes(*most);
  use.slow_bytes = problem.slow_fixed_bytes(problem.d_ff - *least);
  for (size_t l = 0; l < n_hot.size(); ++l) {
    const SolverLayer& layer = problem.layers[l];
    use.fast_bytes += layer.fast_neuron_bytes * static_cast<uint64_t>(n_hot[l]);
    use.slow_bytes += layer.slow_neuron_bytes * static_cast<uint64_t>(problem.d_ff - n_hot[l]);
    use.benefit +=
        std::accumulate(layer.benefit.begin(), layer.benefit.begin() + n_hot[l], int64_t{0});
  }
  return use;
}

// Returns the most benefit of any choice of prefixes that keeps the two budgets.
std::optional<int64_t> BestByTryingAll(const SolverProblem& problem) {
  std::optional<int64_t> best;
  std::vector<int64_t> n_hot(problem.layers.size(), 0);
  while (true) {
    const Use use = UseOf(problem, n_hot);
    if (use.fits(problem) && (!best || use.benefit > *best)) best = use.benefit;
    size_t l = 0;
    for (; l < n_hot.size(); ++l) {
      if (n_hot[l] < problem.d_ff) {
        n_hot[l] = problem.layers[l].whole ? problem.d_ff
                                           : std::min(n_hot[l] + kClusterNeurons, problem.d_ff);
        break;
      }
      n_hot[l] = 0;
    }
    if (l == n_hot.size()) return best;
  }
}

int64_t LargestClusterBenefit(const SolverProblem& problem) {
  int64_t most = 0;
  for (const SolverLayer& layer : problem.layers) {
    const int64_t n = layer.whole ? problem.d_ff : std::min(kClusterNeurons, problem.d_ff);
    most = std::max(most,
                    std::accumulate(layer.benefit.begin(), layer.benefit.begin() + n, int64_t{0}));
  }
  return most;
}

TEST(SolverTest, FindsTheBestWhereClustersAreOfOneSize) {
  std::mt19937 random(11);
  int n_solved = 0;
  for (int i = 0; i < 400; ++i) {
    const Shape shape{32 * static_cast<int64_t>(1 + random() % 4), 1 + random() % 4, true};
    const SolverProblem problem = RandomProblem(shape, random);
    const auto best = BestByTryingAll(problem);
    const SolverResult result = SolvePlacementSizes(problem);
    ASSERT_EQ(result.outcome == SolverOutcome::kSolved, best.has_value()) << i;
    if (!best) continue;
    ++n_solved;
    EXPECT_EQ(result.benefit, *best) << i;
    EXPECT_EQ(UseOf(problem, result.n_hot).benefit, result.benefit) << i;
  }
  EXPECT_GT(n_solved, 100);
}

TEST(SolverTest, LayersThatMustBeWholeLieOnOneTier) {
  std::mt19937 random(14);
  int n_mixed = 0;  // some whole layers on each tier
  int n_cut = 0;    // and the others on both
  for (int i = 0; i < 400; ++i) {
    const Shape shape{static_cast<int64_t>(1 + random() % 120), 2 + random() % 3, true};
    SolverProblem problem = RandomProblem(shape, random);
    const bool ram_is_scarce = i % 2 == 0;
    if (!ram_is_scarce) problem.ram_bytes = UINT64_MAX;
    for (SolverLayer& layer : problem.layers) layer.whole = random() % 2 == 0;
    const SolverResult result = SolvePlacementSizes(problem);
    const auto best = BestByTryingAll(problem);
    if (!ram_is_scarce) {
      ASSERT_EQ(result.outcome == SolverOutcome::kSolved, best.has_value()) << i;
    }
    if (result.outcome != SolverOutcome::kSolved) continue;
    const Use use = UseOf(problem, result.n_hot);
    EXPECT_TRUE(use.fits(problem)) << i;
    EXPECT_EQ(use.benefit, result.benefit) << i;
    if (!ram_is_scarce) {
      EXPECT_LE(*best - result.benefit, LargestClusterBenefit(problem)) << i;
    }
    int n_hot = 0;
    int n_cold = 0;
    for (size_t l = 0; l < problem.layers.size(); ++l) {
      const int64_t n = result.n_hot[l];
      if (!problem.layers[l].whole) {
        n_cut += n > 0 && n < problem.d_ff ? 1 : 0;
        continue;
      }
      EXPECT_TRUE(n == 0 || n == problem.d_ff) << i;
      ++(n == 0 ? n_cold : n_hot);
    }
    n_mixed += n_hot > 0 && n_cold > 0 ? 1 : 0;
  }
  EXPECT_GT(n_mixed, 20);
  EXPECT_GT(n_cut, 20);
}

TEST(SolverTest, MissesAtMostAClusterWhereTheyDiffer) {
  std::mt19937 random(12);
  for (int i = 0; i < 400; ++i) {
    const Shape shape{static_cast<int64_t>(1 + random() % 120), 1 + random() % 4, false};
    SolverProblem problem = RandomProblem(shape, random);
    problem.ram_bytes = UINT64_MAX;
    const auto best = BestByTryingAll(problem);
    const SolverResult result = SolvePlacementSizes(problem);
    ASSERT_EQ(result.outcome == SolverOutcome::kSolved, best.has_value()) << i;
    if (!best) continue;
    EXPECT_GE(result.benefit + LargestClusterBenefit(problem), *best) << i;
  }
}

TEST(SolverTest, KeepsBothBudgets) {
  std::mt19937 random(13);
  for (int i = 0; i < 2000; ++i) {
    const Shape shape{static_cast<int64_t>(1 + random() % 300), 1 + random() % 6,
                      random() % 2 == 0};
    const SolverProblem problem = RandomProblem(shape, random);
    const SolverResult result = SolvePlacementSizes(problem);
    if (result.outcome != SolverOutcome::kSolved) continue;
    EXPECT_TRUE(UseOf(problem, result.n_hot).fits(problem)) << i;
    for (const int64_t n : result.n_hot) {
      EXPECT_TRUE(n == problem.d_ff || n % kClusterNeurons == 0) << n;
    }
  }
}

TEST(SolverTest, MoreMemoryNeverCoversLess) {
  std::mt19937 random(14);
  for (int i = 0; i < 60; ++i) {
    const Shape shape{static_cast<int64_t>(1 + random() % 200), 1 + random() % 4, i % 2 == 0};
    SolverProblem problem = RandomProblem(shape, random);
    uint64_t& budget = i % 4 < 2 ? problem.vram_bytes : problem.ram_bytes;
    int64_t last = -1;
    for (budget = 0; budget < 6000; budget += 1 + random() % 40) {
      const SolverResult result = SolvePlacementSizes(problem);
      const bool solved = result.outcome == SolverOutcome::kSolved;
      ASSERT_TRUE(solved || last < 0) << i << " " << budget;
      if (!solved) continue;
      ASSERT_GE(result.benefit, last) << i << " " << budget;
      last = result.benefit;
    }
  }
}

TEST(SolverTest, SaysTheLeastBudgetThatWorks) {
  std::mt19937 random(15);
  int n_failed = 0;
  for (int i = 0; i < 600; ++i) {
    const Shape shape{static_cast<int64_t>(1 + random() % 200), 1 + random() % 4,
                      random() % 2 == 0};
    SolverProblem problem = RandomProblem(shape, random);
    SolverResult result = SolvePlacementSizes(problem);
    if (result.outcome == SolverOutcome::kVramTooSmall) {
      EXPECT_GT(result.least_bytes, problem.vram_bytes);
      problem.vram_bytes = result.least_bytes;
      result = SolvePlacementSizes(problem);
      EXPECT_NE(result.outcome, SolverOutcome::kVramTooSmall) << i;
    }
    if (result.outcome == SolverOutcome::kRamTooSmall) {
      EXPECT_GT(result.least_bytes, problem.ram_bytes);
      problem.ram_bytes = result.least_bytes - 1;
      EXPECT_EQ(SolvePlacementSizes(problem).outcome, SolverOutcome::kRamTooSmall) << i;
      problem.ram_bytes = result.least_bytes;
      EXPECT_EQ(SolvePlacementSizes(problem).outcome, SolverOutcome::kSolved) << i;
      ++n_failed;
    }
  }
  EXPECT_GT(n_failed, 50);
}

TEST(SolverTest, NeuronsThatWereNeverActiveFillWhatIsLeft) {
  SolverProblem problem;
  problem.d_ff = 64;
  problem.layers.assign(2, {std::vector<int64_t>(64, 0), 10, 10});
  problem.fast_fixed_bytes = [](int64_t) { return uint64_t{100}; };
  problem.slow_fixed_bytes = [](int64_t) { return uint64_t{0}; };
  problem.vram_bytes = 100 + 3 * 320;
  problem.ram_bytes = 320;
  const SolverResult result = SolvePlacementSizes(problem);
  ASSERT_EQ(result.outcome, SolverOutcome::kSolved);
  EXPECT_EQ(result.n_hot, (std::vector<int64_t>{64, 32}));
}

TEST(SolverTest, AnOrderThatIsNotByBenefitIsKept) {
  // The order is a packed model's: the second cluster is the better one, and still comes second.
  SolverProblem problem;
  problem.d_ff = 64;
  std::vector<int64_t> benefit(64, 1);
  std::fill(benefit.begin() + 32, benefit.end(), 100);
  problem.layers = {{benefit, 1, 1}, {std::vector<int64_t>(64, 2), 1, 1}};
  problem.fast_fixed_bytes = [](int64_t) { return uint64_t{0}; };
  problem.slow_fixed_bytes = [](int64_t) { return uint64_t{0}; };
  problem.vram_bytes = 96;
  problem.ram_bytes = 1000;
  const SolverResult result = SolvePlacementSizes(problem);
  ASSERT_EQ(result.outcome, SolverOutcome::kSolved);
  const Use use = UseOf(problem, result.n_hot);
  EXPECT_EQ(use.benefit, result.benefit);
  EXPECT_LE(use.fast_bytes, 96U);
}

TEST(SolverTest, LargeModelsUseAGridOfLimits) {
  std::mt19937 random(16);
  const Shape shape{14336, 32, true};
  SolverProblem problem = RandomProblem(shape, random);
  problem.ram_bytes = UINT64_MAX / 2;
  problem.vram_bytes = problem.fast_fixed_bytes(shape.d_ff) +
                       problem.layers[0].fast_neuron_bytes * static_cast<uint64_t>(shape.d_ff) * 16;
  const SolverResult result = SolvePlacementSizes(problem);
  ASSERT_EQ(result.outcome, SolverOutcome::kSolved);
  EXPECT_TRUE(UseOf(problem, result.n_hot).fits(problem));
  const int64_t n = std::accumulate(result.n_hot.begin(), result.n_hot.end(), int64_t{0});
  EXPECT_GE(n, shape.d_ff * 16 - kClusterNeurons);
}

}  // namespace
}  // namespace thermocline
