#include "runtime/moves/move_policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

namespace thermocline {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;
using Counts = std::vector<uint32_t>;
using Layer = MovePolicy::Layer;

// Of 100 tokens.
constexpr int64_t kTokens = 100;

MoveOptions Options() {
  MoveOptions options;
  options.half_life_tokens = 1000;
  options.warm_up_tokens = 50;
  options.deviations = 3;
  return options;
}

TEST(MovePolicy, SwapsTheHottestColdNeuronForTheColdestHotOne) {
  const Layer layers[] = {{.n_fast = 3, .n_slow = 3}};
  MovePolicy policy(layers, Options());
  EXPECT_THAT(policy.Turn(0, Counts{90, 2, 40, 1, 80, 60}, kTokens), ElementsAre(NeuronSwap{1, 4}));
  // What it knows moved with them: 80 and 2 have changed places, and 60 against 40 is too close.
  EXPECT_NEAR(policy.heat(0).Share(1), 0.8, 0.01);
  EXPECT_NEAR(policy.heat(0).Share(4), 0.02, 0.01);
  EXPECT_THAT(policy.Turn(0, Counts{90, 80, 40, 1, 2, 60}, kTokens), IsEmpty());
}

TEST(MovePolicy, MovesNothingBeforeItIsWarm) {
  const Layer layers[] = {{.n_fast = 1, .n_slow = 1}};
  MovePolicy policy(layers, Options());
  EXPECT_THAT(policy.Turn(0, Counts{0, 40}, 40), IsEmpty());
  EXPECT_FALSE(policy.IsWarm(0));
  EXPECT_THAT(policy.Turn(0, Counts{0, 40}, 40), SizeIs(1));
  EXPECT_TRUE(policy.IsWarm(0));
}

// A difference must be more than chance makes, and pay for the copies.
TEST(MovePolicy, ASwapMustPay) {
  const Layer layers[] = {{.n_fast = 1, .n_slow = 1}};
  MoveOptions options = Options();
  EXPECT_THAT(MovePolicy(layers, options).Turn(0, Counts{30, 40}, kTokens), IsEmpty());
  options.deviations = 0;
  EXPECT_THAT(MovePolicy(layers, options).Turn(0, Counts{30, 40}, kTokens), SizeIs(1));
  options.least_difference = 0.15;
  EXPECT_THAT(MovePolicy(layers, options).Turn(0, Counts{30, 40}, kTokens), IsEmpty());
  EXPECT_THAT(MovePolicy(layers, options).Turn(0, Counts{30, 48}, kTokens), SizeIs(1));
}

TEST(MovePolicy, MovesAClusterAtATime) {
  const Layer layers[] = {{.n_fast = 50, .n_slow = 70}};
  MovePolicy policy(layers, Options());
  Counts fired(120, 0);
  std::fill(fired.begin() + 50, fired.end(), 90U);
  EXPECT_THAT(policy.Turn(0, fired, kTokens), SizeIs(kClusterNeurons));
}

TEST(MovePolicy, LayersTakeTurns) {
  const Layer layers[] = {{4, 4}, {8, 0}, {4, 4}, {0, 8}, {4, 4}};
  MoveOptions options = Options();
  MovePolicy policy(layers, options);
  std::vector<int64_t> turns;
  for (int i = 0; i < 4; ++i) turns.push_back(policy.NextLayer(1));
  EXPECT_THAT(turns, ElementsAre(0, 2, 4, 0));
  options.tokens_between = 3;
  MovePolicy seldom(layers, options);
  turns.clear();
  for (int i = 0; i < 7; ++i) turns.push_back(seldom.NextLayer(1));
  EXPECT_THAT(turns, ElementsAre(-1, -1, 0, -1, -1, 2, -1));
  seldom.CountTokens(2);
  EXPECT_EQ(seldom.NextLayer(0), 4);
}

TEST(MovePolicy, WithoutTwoTiersNothingMoves) {
  const Layer layers[] = {{8, 0}, {0, 8}};
  MovePolicy policy(layers, Options());
  EXPECT_EQ(policy.NextLayer(1000), -1);
}

// The same shares for ever: once the hot ones are on the fast tier, chance moves next to nothing,
// and nobody goes back and forth.
TEST(MovePolicy, ComesToRest) {
  constexpr int64_t kNeurons = 400;
  const Layer layers[] = {{.n_fast = 100, .n_slow = kNeurons - 100}};
  MovePolicy policy(layers, Options());
  std::mt19937 random(11);
  std::vector<int32_t> order(kNeurons);
  std::iota(order.begin(), order.end(), 0);  // the coldest first
  const auto run = [&](int n_turns) {
    size_t n_swaps = 0;
    for (int turn = 0; turn < n_turns; ++turn) {
      Counts fired(kNeurons, 0);
      for (int64_t t = 0; t < kTokens; ++t) {
        for (size_t i = 0; i < fired.size(); ++i) {
          // Shares grow with the neuron's number, from 0 to 0.5.
          fired[i] += random() % (2 * kNeurons) < static_cast<uint32_t>(order[i]) ? 1 : 0;
        }
      }
      for (const NeuronSwap& swap : policy.Turn(0, fired, kTokens)) {
        std::swap(order[static_cast<size_t>(swap.fast)], order[static_cast<size_t>(swap.slow)]);
        ++n_swaps;
      }
    }
    return n_swaps;
  };
  EXPECT_GE(run(100), 80U);
  EXPECT_LE(run(100), 60U);
  const auto hot = std::count_if(order.begin(), order.begin() + 100,
                                 [](int32_t id) { return id >= kNeurons - 130; });
  EXPECT_GE(hot, 90);
}

TEST(LeastDifference, IsWhatTheCopiesTake) {
  const MoveCosts costs = {.neuron_bytes = 6000,
                           .active_bytes = 4000,
                           .link_bytes_per_s = 12e9,
                           .slow_bytes_per_s = 40e9,
                           .fast_bytes_per_s = 400e9};
  // 12000 bytes over the link are 1 us; an active neuron takes 0.1 us on the slow tier, 0.01 on the
  // fast one.
  EXPECT_NEAR(LeastDifference(costs, 100), 1 / 0.09 / 100, 1e-9);
  EXPECT_NEAR(LeastDifference(costs, 1000), 1 / 0.09 / 1000, 1e-9);
  MoveCosts even = costs;
  even.fast_bytes_per_s = even.slow_bytes_per_s;
  EXPECT_GT(LeastDifference(even, 1000), 1);
}

}  // namespace
}  // namespace thermocline
