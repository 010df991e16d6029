#include "profiler/activations/drift.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "profiler/activations/drift_run.h"
#include "profiler/activations/profile_run.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

constexpr int64_t kNeurons = 128;
constexpr int64_t kHot = 32;

// One layer of which the first 32 neurons are hot, and one that lies on the fast tier whole.
Placement FirstAreHot() {
  Placement placement;
  for (const int64_t n_fast : {kHot, kNeurons}) {
    LayerPlacement& layer = placement.layers.emplace_back();
    layer.neuron_order.resize(kNeurons);
    std::iota(layer.neuron_order.begin(), layer.neuron_order.end(), 0);
    layer.n_on = {n_fast, kNeurons - n_fast, 0};
  }
  return placement;
}

class Drift : public testing::Test {
 protected:
  // Tokens in which neurons [first, first + 32) fire with a share of 0.5, and others of 0.02.
  void Read(const std::string& name, int64_t first, int n_tokens) {
    simulation_.BeginText(name);
    for (int t = 0; t < n_tokens; ++t) {
      std::vector<uint64_t> bits(ActiveWords(kNeurons));
      for (int64_t i = 0; i < kNeurons; ++i) {
        const bool hot = i >= first && i < first + kHot;
        if (random_() % 100 < (hot ? 50U : 2U)) {
          bits[static_cast<size_t>(i / 64)] |= uint64_t{1} << (i % 64);
        }
      }
      const ActiveBits layers[] = {bits, bits};
      simulation_.OnToken(layers);
    }
  }

  std::mt19937 random_{5};
  DriftSimulation simulation_{kNeurons, FirstAreHot(), MoveOptions{}};
};

TEST_F(Drift, ATextOfThePlacementsKindLosesNothing) {
  Read("steady", 0, 2000);
  const DriftedText text = simulation_.Texts().front();
  EXPECT_EQ(text.n_tokens, 2000);
  EXPECT_EQ(text.fixed, text.best);
  EXPECT_EQ(text.moving, text.fixed);
  EXPECT_EQ(text.n_swaps, 0);
  EXPECT_EQ(text.Recovered(), 0);
}

TEST_F(Drift, AnotherTextIsFollowed) {
  Read("steady", 0, 2000);
  Read("other", 64, 4000);
  const DriftedText text = simulation_.Texts().back();
  EXPECT_LT(text.fixed / text.activations, 0.1);
  EXPECT_GT(text.best / text.activations, 0.8);
  EXPECT_GT(text.Recovered(), 0.75);
  EXPECT_GE(text.n_swaps, kHot - 3);
  DriftedText sum;
  for (const DriftedText& each : simulation_.Texts()) sum.Add(each);
  EXPECT_EQ(sum.n_tokens, 6000);
  EXPECT_EQ(sum.n_swaps, text.n_swaps);
}

// The embedded model's own counts: a placement made from one book, then a text like it, and three
// of other kinds. What is asserted is what docs/placement.md promises.
class ClassicsModelDrift : public testing::Test {
 protected:
  static std::string Demo(const std::string& name) {
    return std::string(THERMOCLINE_SOURCE_DIR) + "/tools/demo.d/" + name;
  }
};

}  // namespace
}  // namespace thermocline
