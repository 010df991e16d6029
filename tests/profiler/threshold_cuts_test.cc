// Models that run with thresholds.
#include <gtest/gtest.h>

#include <cmath>

#include "profiler/thresholds/calibrate_thresholds.h"
#include "runtime/engine/evaluate.h"
#include "runtime/engine/touched_bytes.h"
#include "tests/placement/placements.h"
#include "tests/profiler/profiler_testing.h"
#include "tests/profiler/threshold_models.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

class ThresholdRun : public ::testing::TestWithParam<std::string> {
 protected:
  ThresholdRun() : path_(dir_.file("a.profile.gguf")) {
    Engine engine(CalibrationOptions(GetParam()));
    const ChannelOrders orders = ReadChannelOrders(engine.model().gguf(), engine.config());
    ModelThresholds thresholds = MeasureThresholds(engine, orders);
    CalibrateThresholds(engine, RandomIds(100, 4321), {},
                        {.search_tokens = 0, .scored_tokens = 0, .progress = {}}, &thresholds);
    WriteThresholdFile(path_, thresholds, PlacementFingerprint(engine.model().gguf()));
  }
  EngineOptions Options(const std::string& sparse, bool by_column = false,
                        int n_threads = 2) const {
    EngineOptions options;
    options.model_path = GetParam();
    options.fast_tier = FastTier::kCpu;
    options.sparse = sparse;
    options.thresholds_path = path_;
    options.by_column = by_column;
    options.n_threads = n_threads;
    options.all_logits = true;
    return options;
  }
  // Logits of a text that is decoded token by token.
  static std::vector<float> Decode(Engine& engine, SparseMode mode) {
    engine.executor().set_mode(mode);
    engine.executor().ResetCounts();
    engine.Reset();
    const std::vector<int32_t> ids = RandomIds(40, 99);
    std::vector<float> all;
    const auto take = [&](std::span<const float> logits) {
      all.insert(all.end(), logits.begin(), logits.end());
    };
    for (size_t i = 0; i < ids.size(); ++i) take(engine.Feed(std::span(ids).subspan(i, 1)));
    return all;
  }
  static double MostDifference(const std::vector<float>& a, const std::vector<float>& b) {
    double most = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      most = std::max(most, std::fabs(static_cast<double>(a[i]) - b[i]));
    }
    return most;
  }

  TempDir dir_;
  std::string path_;
};

TEST_P(ThresholdRun, NothingSkippedIsDenseToTheBit) {
  for (const char* sparse : {"teal:0", "wina:0", "cats:0"}) {
    for (const bool by_column : {false, true}) {
      Engine engine(Options(sparse, by_column));
      const auto dense = Decode(engine, SparseMode::kDense);
      EXPECT_EQ(Decode(engine, SparseMode::kThreshold), dense) << sparse << by_column;
    }
  }
}

TEST_P(ThresholdRun, StorageAndThreadsDoNotMatter) {
  for (const char* sparse : {"teal:0.5", "wina:0.4"}) {
    Engine rows(Options(sparse));
    Engine columns(Options(sparse, true));
    Engine one_thread(Options(sparse, true, 1));
    const auto expected = Decode(rows, SparseMode::kThreshold);
    const auto found = Decode(columns, SparseMode::kThreshold);
    // Weights are F32, and sums differ in their order alone; a channel on the edge of a threshold
    // is worth as little as the threshold.
    EXPECT_LT(MostDifference(found, expected), 2e-3);
    EXPECT_EQ(Decode(one_thread, SparseMode::kThreshold), found);
    EXPECT_GT(MostDifference(expected, Decode(rows, SparseMode::kDense)), 2e-3);
  }
}

// Two tiers read the same channels, by row and by column, and are counted once.
TEST_P(ThresholdRun, PlacementsDoNotMatter) {
  for (const char* sparse : {"teal:0.5", "wina:0.4", "neurons:0.7"}) {
    for (const bool by_column : {false, true}) {
      if (by_column && sparse[0] == 'n') continue;
      Engine whole(Options(sparse, by_column));
      const auto expected = Decode(whole, SparseMode::kThreshold);
      const ChannelCounts& counts = whole.executor().counts().channels;
      for (const double hot : {0.0, 0.67, 1.0}) {
        EngineOptions options = Options(sparse, by_column);
        options.placement_path = dir_.file("a.placement.gguf");
        WritePlacement(options.placement_path,
                       ShuffledPlacement(PlacementFingerprint(whole.model().gguf()),
                                         whole.config().n_layers, whole.config().d_ff, hot));
        Engine placed(options);
        EXPECT_LT(MostDifference(Decode(placed, SparseMode::kThreshold), expected), 5e-3)
            << sparse << " at " << hot;
        const ChannelCounts& found = placed.executor().counts().channels;
        for (size_t l = 0; l < counts.kept.size(); ++l) {
          for (size_t m = 0; m < kCutMatrices; ++m) {
            EXPECT_NEAR(static_cast<double>(found.kept[l][m]),
                        static_cast<double>(counts.kept[l][m]), 3)
                << sparse << " at " << hot << ", layer " << l << ", matrix " << m;
          }
        }
      }
    }
  }
}

TEST_P(ThresholdRun, SkipsTheShareThatWasAskedFor) {
  for (const char* method : {"teal", "wina", "cats", "neurons"}) {
    for (const double share : {0.25, 0.5, 0.6}) {
      // Zeros of ReLU are skipped whatever is asked for: half of the FFN's.
      if (GetParam() == ReluModelPath() && share < 0.6) continue;
      Engine engine(Options(std::string(method) + ":" + std::to_string(share)));
      PerplexityOptions options;
      options.window_tokens = 99;
      options.compare_to_dense = true;
      const auto result = EvaluatePerplexity(engine, RandomIds(500, 1234), options);
      EXPECT_NEAR(engine.cuts()->ShareSkipped(result.counts.channels), share, 0.03) << method;
      EXPECT_GT(result.mean_kl, 0);
    }
  }
}

// What decode counts is what it reads.
TEST_P(ThresholdRun, BytesAgreeWithTheShare) {
  Engine engine(Options("teal:0.5", true));
  Decode(engine, SparseMode::kThreshold);
  const FfnCounts counts = engine.executor().counts();
  EXPECT_EQ(counts.channels.rows, 40 - kUncutPositions);
  const TouchedBytes touched = TouchedPerToken(engine, counts, SparseMode::kThreshold);
  const TouchedBytes dense = TouchedPerToken(engine, counts, SparseMode::kDense);
  EXPECT_NEAR(touched.dense_bytes, dense.bytes, 1e-6 * dense.bytes);
  double matrices = 0;
  for (const LayerWeights& w : engine.weights().layers) {
    matrices +=
        static_cast<double>(w.wq.w.weight_bytes() + w.wk.w.weight_bytes() + w.wv.w.weight_bytes() +
                            w.wo.w.weight_bytes() + w.slices[0].weight_bytes());
  }
  EXPECT_NEAR((dense.bytes - touched.bytes) / matrices, touched.sparsity, 1e-6);
  EXPECT_NEAR(touched.sparsity, 0.5, 0.05);
}

TEST_P(ThresholdRun, BatchesAreDenseUnlessMeasured) {
  Engine engine(Options("teal:0.5"));
  const std::vector<int32_t> ids = RandomIds(30, 5);
  const auto logits = [&](SparseMode mode) {
    engine.executor().set_mode(mode);
    engine.Reset();
    const auto all = engine.EvaluateAll(ids);
    return std::vector<float>(all.begin(), all.end());
  };
  const auto dense = logits(SparseMode::kDense);
  EXPECT_EQ(logits(SparseMode::kThreshold), dense);
  const ScopedBatchCuts cutting(engine.executor().cuts());
  const auto cut = logits(SparseMode::kThreshold);
  EXPECT_NE(cut, dense);
  // The first positions are never cut.
  const auto vocab = static_cast<size_t>(engine.config().vocab_size);
  for (size_t i = 0; i < kUncutPositions * vocab; ++i) ASSERT_EQ(cut[i], dense[i]);
  // Decoded one by one it is the same text, but for the rounding of batches.
  engine.executor().set_mode(SparseMode::kThreshold);
  engine.Reset();
  for (size_t t = 0; t < ids.size(); ++t) {
    const auto one = engine.Feed(std::span(ids).subspan(t, 1));
    for (size_t i = 0; i < vocab; ++i) ASSERT_NEAR(one[i], cut[t * vocab + i], 5e-2) << t;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, ThresholdRun, ::testing::Values(SiluModelPath(), ReluModelPath()),
                         [](const auto& param) { return param.index == 0 ? "silu" : "relu"; });

// Attention alone is cut beside another mode of the FFN, whose text stays what it is at 0.
TEST(ThresholdRunBeside, ExactFfns) {
  TempDir dir;
  const std::string path = dir.file("a.profile.gguf");
  EngineOptions options = CalibrationOptions(ReluModelPath());
  {
    Engine engine(options);
    WriteThresholdFile(path, MeasureThresholds(engine, {}),
                       PlacementFingerprint(engine.model().gguf()));
  }
  options.sets_cuts = false;
  options.thresholds_path = path;
  options.by_column = true;
  options.sparse = "exact+teal:0.5";
  Engine engine(options);
  const std::vector<int32_t> ids = RandomIds(40, 3);
  for (const int32_t id : ids) engine.Feed({&id, 1});
  const FfnCounts counts = engine.executor().counts();
  const TouchedBytes touched = TouchedPerToken(engine, counts, SparseMode::kThreshold);
  EXPECT_NEAR(touched.sparsity, 0.5, 0.05);
  EXPECT_LT(touched.mean_density, 0.9);
  EXPECT_EQ(touched.mean_gate_density, 1);
  EXPECT_EQ(engine.cuts()->ShareRead(counts.channels, 0, CutMatrix::kUp), 1);
  EXPECT_FALSE(engine.weights().layers[0].slices[0].by_column);
  EXPECT_TRUE(engine.weights().layers[0].wq.by_column);
}

}  // namespace
}  // namespace thermocline
