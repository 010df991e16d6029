// Synthetic models do what was asked of them, and their profile says it.
#include "profiler/synthetic/synth_profile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "profiler/placement/place.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

SynthOptions SmallModel(Activation activation, DType dtype) {
  SynthOptions options;
  options.n_layers = 4;
  options.d_model = 256;
  options.d_ff = 1024;
  options.n_heads = 4;
  options.n_kv_heads = 2;
  options.vocab_size = 2000;
  options.max_seq_len = 512;
  options.activation = activation;
  options.dtype = dtype;
  options.activity = ActivityTarget{0.1, 0.26, 0.8};
  options.n_threads = 2;
  return options;
}

struct MeasuredCase {
  Activation activation;
  DType dtype;
  int64_t gate_rank = 0;
};

class MeasureActivityTest : public testing::TestWithParam<MeasuredCase> {};

TEST_P(MeasureActivityTest, LiesWithinTenPercentAndInTheRightOrder) {
  const TempDir directory;
  SynthOptions options = SmallModel(GetParam().activation, GetParam().dtype);
  options.gate_rank = GetParam().gate_rank;
  WriteSynthModel(directory.file("model.gguf"), options);
  const ActivityCheck check = MeasureActivity(directory.file("model.gguf"), options,
                                              {.n_tokens = 600, .n_threads = 2, .progress = {}});
  EXPECT_EQ(check.n_tokens, 600);
  ASSERT_EQ(check.layers.size(), 4U);
  EXPECT_LT(check.Deviation(*options.activity), 0.1);
  EXPECT_NEAR(check.mean.density, 0.1, 0.005);
  EXPECT_NEAR(check.mean.activations, 0.8, 0.02);
  EXPECT_GT(check.best_rank_correlation, 0.9);
  // Neurons have the frequencies wanted of each of them, so the layers before do not turn all
  // tokens into one direction.
  for (const MeasuredLayer& layer : check.layers) {
    EXPECT_GT(layer.rank_correlation, check.best_rank_correlation - 0.05);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, MeasureActivityTest,
                         testing::Values(MeasuredCase{Activation::kRelu, DType::kF32},
                                         MeasuredCase{Activation::kRelu, DType::kQ4_0},
                                         MeasuredCase{Activation::kReluSqr, DType::kQ8_0},
                                         MeasuredCase{Activation::kRelu, DType::kQ4_0, 32},
                                         MeasuredCase{Activation::kReluSqr, DType::kF16, 128}));

TEST(ActivityCheck, DeviationIsTheWorstOfAllLayers) {
  ActivityCheck check;
  check.layers = {{0.1, 0.8, 1}, {0.09, 0.84, 1}};
  EXPECT_NEAR(check.Deviation({0.1, 0.26, 0.8}), 0.1, 1e-12);
  check.layers.push_back({0.1, 0.4, 1});
  EXPECT_NEAR(check.Deviation({0.1, 0.26, 0.8}), 0.5, 1e-12);
}

TEST(WantedStats, AreTheProbabilitiesAndGiveTheOracleOrder) {
  const TempDir directory;
  SynthOptions options = SmallModel(Activation::kRelu, DType::kF16);
  options.activity = ActivityTarget{0.002, 0.1, 0.9};  // the coldest have equal counts
  WriteSynthModel(directory.file("model.gguf"), options);
  EngineOptions engine;
  engine.model_path = directory.file("model.gguf");
  const OpenedModel model(engine);
  const ProfileStats stats = WantedStats(model, options);
  EXPECT_EQ(stats.model_fingerprint, model.gguf().fingerprint());
  EXPECT_EQ(stats.calibration.n_tokens, kNominalTokens);
  const auto& counts = stats.calibration.layers[2].count;
  const double mean = std::accumulate(counts.begin(), counts.end(), 0.0) / 1024;
  EXPECT_NEAR(mean / static_cast<double>(kNominalTokens), 0.002, 1e-5);
  const SolvedPlacement solved = PlaceFraction(model, stats, 0.5, uint64_t{1} << 30);
  for (int64_t l = 0; l < options.n_layers; ++l) {
    EXPECT_EQ(solved.placement.layers[static_cast<size_t>(l)].neuron_order,
              HotToCold(options.seed, l, options.d_ff));
  }
}

}  // namespace
}  // namespace thermocline
