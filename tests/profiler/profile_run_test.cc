#include "profiler/activations/profile_run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "profiler/activations/coverage.h"
#include "profiler/placement/place.h"
#include "runtime/convert/pack_model.h"
#include "runtime/core/interrupt.h"
#include "tests/profiler/profiler_testing.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

using testing::HasSubstr;

class ProfileRunTest : public testing::Test {
 protected:
  ProfileRunTest() {
    engine_options_.model_path = ReluModelPath();
    engine_options_.sparse = "dense";
    engine_options_.n_threads = 2;
    engine_options_.context_tokens = 32;
    options_.text_path = Text("text", WordText(600));
  }
  ~ProfileRunTest() override { ClearInterrupt(); }

  std::string Text(const std::string& name, const std::string& bytes) {
    WriteWholeFile(dir_.file(name), bytes);
    return dir_.file(name);
  }

  ProfileStats Profile(const std::vector<int64_t>& lru_sizes = {}) {
    Engine engine(engine_options_);
    ProfileTexts texts(engine.model(), engine.tokenizer(), options_);
    ProfileRun run(engine, texts, options_);
    run.Calibrate();
    run.HoldOut(lru_sizes);
    EXPECT_EQ(run.stats().calibration.n_tokens, texts.calibration_tokens());
    EXPECT_EQ(run.stats().heldout.n_tokens, texts.heldout_tokens());
    if (run.lru() != nullptr) lru_hits_ = run.lru()->hits(0);
    return run.stats();
  }

  std::string TextsError() {
    return ErrorOf([&] {
      const Engine engine(engine_options_);
      ProfileTexts(engine.model(), engine.tokenizer(), options_);
    });
  }

  TempDir dir_;
  EngineOptions engine_options_;
  ProfileOptions options_;
  int64_t lru_hits_ = -1;
};

int64_t Sum(const std::vector<int64_t>& values) {
  return std::accumulate(values.begin(), values.end(), int64_t{0});
}

TEST_F(ProfileRunTest, SplitsTheWindowsAndCountsEveryPosition) {
  const ProfileStats stats = Profile();
  const Engine engine(engine_options_);
  const auto n_ids = static_cast<int64_t>(engine.tokenizer().Encode(WordText(600)).size());
  const int64_t n_windows = (n_ids + 30) / 31;
  EXPECT_EQ(stats.calibration.n_tokens + stats.heldout.n_tokens, n_ids + n_windows);
  const auto calibration_windows = n_windows - std::llround(0.2 * static_cast<double>(n_windows));
  EXPECT_EQ(stats.calibration.n_tokens, calibration_windows * 32);
  EXPECT_EQ(stats.n_layers(), 2);
  EXPECT_EQ(stats.d_ff(), 96);
  EXPECT_EQ(stats.context_tokens, 32);
  EXPECT_GT(Sum(stats.heldout.layers[1].count), 0);
  EXPECT_NE(stats.calibration.corpus_hash, stats.heldout.corpus_hash);
}

TEST_F(ProfileRunTest, TheSameTextCountsTheSame) {
  const ProfileStats first = Profile();
  const ProfileStats second = Profile();
  EXPECT_EQ(first.calibration.corpus_hash, second.calibration.corpus_hash);
  EXPECT_EQ(first.calibration.layers[0].count, second.calibration.layers[0].count);
  EXPECT_EQ(first.heldout.layers[1].mass, second.heldout.layers[1].mass);
}

TEST_F(ProfileRunTest, AnotherTextCanBeHeldOut) {
  options_.heldout_path = Text("other", WordText(100, 9));
  const ProfileStats stats = Profile();
  // The same text twice gives the same counts and the same hash.
  options_.heldout_path = options_.text_path;
  const ProfileStats twice = Profile();
  EXPECT_EQ(twice.calibration.corpus_hash, stats.calibration.corpus_hash);
  EXPECT_EQ(twice.heldout.corpus_hash, twice.calibration.corpus_hash);
  EXPECT_EQ(twice.heldout.layers[0].count, twice.calibration.layers[0].count);
  EXPECT_LT(stats.heldout.n_tokens, stats.calibration.n_tokens);
}

TEST_F(ProfileRunTest, MaxTokensLimitsEachText) {
  options_.max_tokens = 62;
  options_.heldout_path = options_.text_path;
  const ProfileStats stats = Profile();
  EXPECT_EQ(stats.calibration.n_tokens, 64);  // two windows, BOS in front of each
  EXPECT_EQ(stats.heldout.n_tokens, 64);
}

TEST_F(ProfileRunTest, AThresholdLeavesFewerActive) {
  const ProfileStats zero = Profile();
  options_.activation_threshold = 0.05;
  const ProfileStats some = Profile();
  options_.activation_threshold = 1e30;
  const ProfileStats none = Profile();
  EXPECT_LT(Sum(some.calibration.layers[0].count), Sum(zero.calibration.layers[0].count));
  EXPECT_EQ(Sum(none.calibration.layers[0].count), 0);
  EXPECT_EQ(none.calibration.layers[0].mass, zero.calibration.layers[0].mass);
}

// Where nothing is 0 a neuron is active above its layer's own magnitude, in half of all cases, and
// some more often than others.
TEST_F(ProfileRunTest, AShareIsCountedLayerByLayer) {
  engine_options_.model_path = SiluModelPath();
  options_.cut_share = 0.5;
  const ProfileStats stats = Profile();
  EXPECT_EQ(stats.cut_share, 0.5);
  for (const LayerActivity& layer : stats.heldout.layers) {
    const auto all = static_cast<double>(stats.heldout.n_tokens * stats.d_ff());
    EXPECT_NEAR(static_cast<double>(Sum(layer.count)) / all, 0.5, 0.1);
    const auto [least, most] = std::ranges::minmax(layer.count);
    EXPECT_GT(most, 2 * least);
  }
}

TEST_F(ProfileRunTest, TheLruSeesTheHeldoutText) {
  const ProfileStats stats = Profile({96, 0});
  // A cache that holds all neurons misses each only once.
  const int64_t active = Sum(stats.heldout.layers[0].count);
  EXPECT_GE(lru_hits_, active - 96);
  EXPECT_LT(lru_hits_, active);
}

TEST_F(ProfileRunTest, TextsTooShortAreErrors) {
  options_.text_path = Text("short", "the rain");
  const std::string message = TextsError();
  EXPECT_THAT(message, HasSubstr("too short"));
  EXPECT_THAT(message, HasSubstr("expected more than 31 tokens"));
  EXPECT_THAT(message, HasSubstr("another text to hold out"));
  options_.heldout_path = options_.text_path;
  EXPECT_EQ(TextsError(), "");
  options_.heldout_path = Text("empty", "");
  EXPECT_THAT(TextsError(), HasSubstr("empty"));
}

TEST_F(ProfileRunTest, BytesThatAreNoTextAreCounted) {
  std::string bytes;
  for (int i = 0; i < 400; ++i) bytes += static_cast<char>(i * 37);
  options_.text_path = Text("bytes", bytes);
  EXPECT_GE(Profile().calibration.n_tokens, 64);
}

TEST_F(ProfileRunTest, StopsWhenAskedInTheMiddle) {
  options_.progress = [](const std::string& label, uint64_t done, uint64_t) {
    if (label == "calibration tokens" && done >= 64) RequestInterrupt();
  };
  EXPECT_THROW(Profile(), Interrupted);
}

TEST_F(ProfileRunTest, PlacementsCoverMoreThanChance) {
  const ProfileStats stats = Profile();
  const OpenedModel model(engine_options_);
  const SolvedPlacement solved = PlaceFraction(model, stats, 0.34, uint64_t{1} << 40);
  const LayerCoverage total = MakeCoverageReport(stats, &solved.placement, nullptr).total;
  EXPECT_GT(total.heldout.value(), total.uniform.value());
}

TEST_F(ProfileRunTest, PackedModelsCountByTheChannelsOfTheirSource) {
  const ProfileStats expected = Profile();
  const OpenedModel model(engine_options_);
  PackOptions pack;
  pack.placement_path = dir_.file("a.placement.gguf");
  WritePlacement(pack.placement_path,
                 PlaceFraction(model, expected, 0.34, uint64_t{1} << 40).placement);
  PackModel(ReluModelPath(), dir_.file("packed.gguf"), pack);
  engine_options_.model_path = dir_.file("packed.gguf");
  const ProfileStats found = Profile();
  EXPECT_EQ(found.model_fingerprint, expected.model_fingerprint);
  for (size_t i = 0; i < 96; ++i) {
    EXPECT_NEAR(static_cast<double>(found.calibration.layers[1].count[i]),
                static_cast<double>(expected.calibration.layers[1].count[i]), 2);
  }
}

// The embedded model is sparse and skewed on the embedded texts, and the skew holds on other text.
TEST_F(ProfileRunTest, TheEmbeddedModelIsSparseAndSkewed) {
  const std::string demo = std::string(THERMOCLINE_SOURCE_DIR) + "/tools/demo.d/";
  engine_options_.model_path = demo + "classics-9m-relu-q8_0.gguf";
  engine_options_.context_tokens = 0;
  options_.text_path = demo + "calibration.txt";
  options_.heldout_path = demo + "heldout.txt";
  options_.max_tokens = 6000;
  const ProfileStats stats = Profile();
  const OpenedModel model(engine_options_);
  const SolvedPlacement solved = PlaceFraction(model, stats, 0.25, uint64_t{1} << 40);
  const CoverageReport report = MakeCoverageReport(stats, &solved.placement, nullptr);
  // Another implementation measured this on the f16 model.
  const std::vector<double> density = {0.3416, 0.1599, 0.0527, 0.0393,
                                       0.0907, 0.1092, 0.1227, 0.1448};
  for (size_t l = 0; l < density.size(); ++l) {
    EXPECT_NEAR(1 - report.layers[l].heldout_sparsity, density[l], 0.02) << "layer " << l;
    EXPECT_GT(report.layers[l].heldout.value(), report.layers[l].uniform.value() + 0.04);
    EXPECT_NEAR(report.layers[l].heldout.value(), report.layers[l].heldin.value(), 0.05);
  }
}

// Another implementation measured this share of active neurons on text that was held out.
TEST_F(ProfileRunTest, ClassicsModelHasTheGoldenDensity) {
  const std::string data = std::string(THERMOCLINE_SOURCE_DIR) + "/../shared/data/";
  engine_options_.model_path = data + "models/classics-9m-relu-f16.gguf";
  if (!std::filesystem::exists(engine_options_.model_path)) {
    GTEST_SKIP() << "no classics-9m-relu-f16.gguf beside the project";
  }
  std::ifstream file(data + "models/classics-9m.golden.json");
  const auto golden = nlohmann::json::parse(file);
  engine_options_.context_tokens = 0;
  options_.text_path = data + "text/classics-heldout.txt";
  options_.max_tokens = 12000;
  const CoverageReport report = MakeCoverageReport(Profile(), nullptr, nullptr);
  for (size_t l = 0; l < report.layers.size(); ++l) {
    EXPECT_NEAR(1 - report.layers[l].calibration_sparsity,
                golden["density_per_layer"][l].get<double>(), 0.01)
        << "layer " << l;
  }
}

}  // namespace
}  // namespace thermocline
