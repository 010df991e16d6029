#include "runtime/moves/heat.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace thermocline {
namespace {

using Counts = std::vector<uint32_t>;

TEST(HeatCounters, KnowNothingAtFirst) {
  const HeatCounters heat(3, 10);
  EXPECT_EQ(heat.weight(), 0);
  EXPECT_EQ(heat.Share(1), 0);
}

TEST(HeatCounters, TellTheShareOfTheTokens) {
  HeatCounters heat(3, 256);
  for (int t = 0; t < 4000; ++t) heat.Add(Counts{1, t % 4 == 0 ? 1U : 0U, 0}, 1);
  EXPECT_NEAR(heat.Share(0), 1, 0.02);
  EXPECT_NEAR(heat.Share(1), 0.25, 0.02);
  EXPECT_EQ(heat.Share(2), 0);
}

// From the first token on, not only when the counters have filled.
TEST(HeatCounters, TellItEarlyToo) {
  HeatCounters heat(2, 1000);
  for (int t = 0; t < 40; ++t) heat.Add(Counts{1, t % 2 == 0 ? 1U : 0U}, 1);
  EXPECT_NEAR(heat.weight(), 40, 1);
  EXPECT_NEAR(heat.Share(0), 1, 0.02);
  EXPECT_NEAR(heat.Share(1), 0.5, 0.02);
}

TEST(HeatCounters, ForgetHalfInAHalfLife) {
  HeatCounters heat(2, 100);
  for (int t = 0; t < 2000; ++t) heat.Add(Counts{1, 0}, 1);
  for (int t = 0; t < 100; ++t) heat.Add(Counts{0, 1}, 1);
  EXPECT_NEAR(heat.Share(0), 0.5, 0.02);
  EXPECT_NEAR(heat.Share(1), 0.5, 0.02);
  for (int t = 0; t < 100; ++t) heat.Add(Counts{0, 1}, 1);
  EXPECT_NEAR(heat.Share(0), 0.25, 0.02);
}

// A counter of 16 bits is full and no more, whatever comes, and the share never passes 1.
TEST(HeatCounters, Saturate) {
  for (const double half_life : {1.0, 7.0, 512.0, 40000.0, 1e9}) {
    HeatCounters heat(1, half_life);
    for (int i = 0; i < 300; ++i) heat.Add(Counts{UINT32_MAX}, 1000);
    EXPECT_LE(heat.Share(0), 1) << half_life;
    if (half_life < 20000) {
      EXPECT_GT(heat.Share(0), 0.9) << half_life;
    }
  }
}

TEST(HeatCounters, TokensInOneGoCountAsTokensOneByOne) {
  std::mt19937 random(3);
  HeatCounters one_by_one(64, 200);
  HeatCounters in_batches(64, 200);
  for (int batch = 0; batch < 100; ++batch) {
    Counts sums(64);
    for (int t = 0; t < 20; ++t) {
      Counts fired(64);
      for (size_t i = 0; i < fired.size(); ++i) fired[i] = random() % 64 < i ? 1 : 0;
      for (size_t i = 0; i < fired.size(); ++i) sums[i] += fired[i];
      one_by_one.Add(fired, 1);
    }
    in_batches.Add(sums, 20);
  }
  EXPECT_NEAR(one_by_one.weight(), in_batches.weight(), 1e-6 * one_by_one.weight());
  for (int64_t i = 0; i < 64; ++i) EXPECT_NEAR(one_by_one.Share(i), in_batches.Share(i), 0.02);
}

TEST(HeatCounters, SwapWithTheirNeurons) {
  HeatCounters heat(2, 100);
  heat.Add(Counts{8, 2}, 10);
  heat.Swap(0, 1);
  EXPECT_NEAR(heat.Share(0), 0.2, 0.01);
  EXPECT_NEAR(heat.Share(1), 0.8, 0.01);
}

}  // namespace
}  // namespace thermocline
