#include "profiler/activations/activation_counter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <numeric>

#include "profiler/activations/profile_run.h"
#include "tests/placement/placements.h"
#include "tests/profiler/profiler_testing.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

// A layer of three neurons over d_model 2, in memory.
struct TinyLayer {
  std::vector<float> down_rows = {3, 4, 0, 0, -6, 8};     // (3, 2): norms 5, 0, 10
  std::vector<float> down_columns = {3, 0, -6, 4, 0, 8};  // the same as (2, 3)
  ModelConfig config;
  ModelWeights weights;

  TinyLayer() {
    config.n_layers = 1;
    config.d_model = 2;
    config.d_ff = 3;
    weights.layers.resize(1);
    weights.layers[0].slices.resize(1);
    FfnSlice& slice = weights.layers[0].slices[0];
    slice.n_neurons = 3;
    slice.down = DenseView(down_rows.data(), DType::kF32, 3, 2);
  }
};

TEST(DownNormsTest, AreTheSameInBothLayouts) {
  TinyLayer tiny;
  FfnSlice& slice = tiny.weights.layers[0].slices[0];
  EXPECT_THAT(DownNorms(slice.down, slice.down_layout), testing::ElementsAre(5, 0, 10));
  slice.down = DenseView(tiny.down_columns.data(), DType::kF32, 2, 3);
  slice.down_layout = DownLayout::kStock;
  EXPECT_THAT(DownNorms(slice.down, slice.down_layout), testing::ElementsAre(5, 0, 10));
}

TEST(ActivationCounterTest, CountsByHand) {
  const TinyLayer tiny;
  const ChannelOrders no_orders;
  ActivationCounter counter(tiny.config, {{5, 0, 10}}, no_orders, 1.0);
  SplitActivity split;
  LruBaseline lru(3, {1});
  counter.CountInto(&split, &lru);
  const std::vector<float> h = {1, -2, 0.5F,  //
                                3, 0,  -4};
  counter.OnFfn(Lane{}, {0, 2, &tiny.weights.layers[0].slices[0], h.data()});
  EXPECT_THAT(split.layers[0].count, testing::ElementsAre(1, 1, 1));  // 1 is not above 1
  EXPECT_THAT(split.layers[0].mass, testing::ElementsAre(20, 0, 45));
  EXPECT_EQ(lru.lookups(0), 3);
  counter.OnFfn(Lane{}, {0, 1, &tiny.weights.layers[0].slices[0], h.data() + 3});
  EXPECT_THAT(split.layers[0].count, testing::ElementsAre(2, 1, 2));
  EXPECT_EQ(lru.hits(0), 1);  // neuron 2, the last one of the token before
}

TEST(ActivationCounterTest, PositionsAreMappedToChannels) {
  TinyLayer tiny;
  const std::vector<float> h = {1, 2, 3};
  const std::vector<int32_t> ids = {2, 0, 1};
  SplitActivity packed;
  const ChannelOrders orders = {ids};
  ActivationCounter by_order(tiny.config, {{0, 10, 5}}, orders, 0);
  by_order.CountInto(&packed, nullptr);
  by_order.OnFfn(Lane{}, {0, 1, &tiny.weights.layers[0].slices[0], h.data()});
  // Row 0 of the file is channel 2, whose norm is 5.
  EXPECT_THAT(packed.layers[0].mass, testing::ElementsAre(0, 30, 5));

  SplitActivity placed;
  FfnSlice& slice = tiny.weights.layers[0].slices[0];
  slice.neuron_ids = ids.data();
  const ChannelOrders no_orders;
  ActivationCounter by_slice(tiny.config, {{0, 10, 5}}, no_orders, 0);
  by_slice.CountInto(&placed, nullptr);
  by_slice.OnFfn(Lane{}, {0, 1, &slice, h.data()});
  EXPECT_THAT(placed.layers[0].mass, testing::ElementsAre(0, 30, 5));
}

// Counts a text with a model, on one tier or two, by some threads, in batches of some size.
SplitActivity CountText(int n_threads, int64_t batch_tokens, const std::string& placement_path) {
  EngineOptions options;
  options.model_path = ReluModelPath();
  options.placement_path = placement_path;
  options.sparse = "dense";
  options.n_threads = n_threads;
  options.batch_tokens = batch_tokens;
  Engine engine(options);
  const ChannelOrders no_orders;
  ActivationCounter counter(engine.config(), ChannelNorms(engine.model(), no_orders), no_orders, 0);
  SplitActivity split;
  counter.CountInto(&split, nullptr);
  engine.executor().set_observer(&counter);
  const std::string text = WordText(400);
  std::vector<int32_t> ids = engine.tokenizer().EncodePrompt(text);
  ids.resize(100);
  engine.Feed(ids);
  return split;
}

void ExpectClose(const SplitActivity& found, const SplitActivity& expected) {
  ASSERT_EQ(found.layers.size(), expected.layers.size());
  for (size_t l = 0; l < found.layers.size(); ++l) {
    for (size_t i = 0; i < found.layers[l].count.size(); ++i) {
      // A value that rounds to the other side of zero moves a count by one.
      EXPECT_NEAR(static_cast<double>(found.layers[l].count[i]),
                  static_cast<double>(expected.layers[l].count[i]), 1)
          << l << " " << i;
      const double mass = expected.layers[l].mass[i];
      EXPECT_NEAR(found.layers[l].mass[i], mass, 1e-3 * mass + 1e-4) << l << " " << i;
    }
  }
}

TEST(ActivationCounterTest, ThreadsBatchesAndTiersCountTheSame) {
  const SplitActivity expected = CountText(1, 128, "");
  const int64_t total =
      std::accumulate(expected.layers[0].count.begin(), expected.layers[0].count.end(), int64_t{0});
  EXPECT_GT(total, 0);
  EXPECT_LT(total, 96 * 100);
  ExpectClose(CountText(3, 128, ""), expected);
  ExpectClose(CountText(2, 1, ""), expected);
  ExpectClose(CountText(2, 33, ""), expected);

  const TempDir dir;
  const std::string path = dir.file("p.placement.gguf");
  const GgufReader gguf(ReluModelPath());
  WritePlacement(path, ShuffledPlacement(gguf.fingerprint(), 2, 96, 0.4));
  ExpectClose(CountText(2, 64, path), expected);
}

TEST(ActivationCounterTest, CountsWhatExactModeComputes) {
  EngineOptions options;
  options.model_path = ReluModelPath();
  options.sparse = "exact";
  options.n_threads = 1;
  options.batch_tokens = 1;
  Engine engine(options);
  const std::vector<int32_t> ids = engine.tokenizer().EncodePrompt("the sea and the rain singing");
  engine.Feed(ids);
  const FfnCounts computed = engine.executor().counts();

  const ChannelOrders no_orders;
  ActivationCounter counter(engine.config(), ChannelNorms(engine.model(), no_orders), no_orders, 0);
  SplitActivity split;
  counter.CountInto(&split, nullptr);
  engine.executor().set_observer(&counter);
  engine.Reset();
  engine.Feed(ids);
  for (size_t l = 0; l < split.layers.size(); ++l) {
    const auto& count = split.layers[l].count;
    EXPECT_EQ(std::accumulate(count.begin(), count.end(), int64_t{0}), computed.layers[l].active);
  }
}

}  // namespace
}  // namespace thermocline
