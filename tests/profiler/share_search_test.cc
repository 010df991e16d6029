#include "profiler/thresholds/share_search.h"

#include <gtest/gtest.h>

#include "profiler/thresholds/calibrate_thresholds.h"
#include "tests/profiler/profiler_testing.h"
#include "tests/profiler/threshold_models.h"

namespace thermocline {
namespace {

class ShareSearch : public ::testing::Test {
 protected:
  ShareSearch()
      : engine_(CalibrationOptions(SiluModelPath())),
        cuts_(MeasureThresholds(engine_, {}), engine_.config(), engine_.weights(), orders_,
              engine_.model().executor_options().max_tokens, engine_.devices()) {
    engine_.executor().set_cuts(cuts_.cuts());
  }

  // The error of a layer's output where its input is x.
  double ErrorOf(int64_t layer, const std::vector<float>& x, const MatrixShares& shares) {
    const ScopedBatchCuts cutting(cuts_.cuts());
    const auto d = static_cast<size_t>(engine_.config().d_model);
    const auto n = static_cast<int64_t>(x.size() / d);
    const auto run = [&](SparseMode mode) {
      std::vector<float> y = x;
      engine_.executor().set_mode(mode);
      engine_.executor().RunLayers(y.data(), n, 0, layer, layer + 1);
      return y;
    };
    cuts_.Set(layer, ThresholdMethod::kTeal, shares);
    const auto dense = run(SparseMode::kDense);
    const auto cut = run(SparseMode::kThreshold);
    double sum = 0;
    for (size_t t = kUncutPositions; t < static_cast<size_t>(n); ++t) {
      double difference = 0;
      double square = 0;
      for (size_t i = t * d; i < (t + 1) * d; ++i) {
        difference += (static_cast<double>(cut[i]) - dense[i]) * (cut[i] - dense[i]);
        square += static_cast<double>(dense[i]) * dense[i];
      }
      sum += difference / square;
    }
    return sum / static_cast<double>(n - kUncutPositions);
  }

  ChannelOrders orders_;
  Engine engine_;
  ModelCuts cuts_;
};

TEST_F(ShareSearch, FindsAPathThatHurtsNoMoreThanEqualShares) {
  const std::vector<int32_t> ids = RandomIds(64, 77);
  SearchShares(engine_, ids, ThresholdMethod::kTeal, &cuts_, {});
  std::vector<float> x(ids.size() * static_cast<size_t>(engine_.config().d_model));
  engine_.executor().Embed(ids, x.data());
  const auto& path = cuts_.thresholds().layers[0].paths[0];
  ASSERT_GT(path.size(), 10U);
  EXPECT_EQ(path.front().share, 0);
  EXPECT_GE(path.back().share, kMaxSparsity);
  const ThresholdChoice half = {.sparsity = 0.5};
  const auto searched =
      ChooseShares(cuts_.thresholds(), half, ThresholdSplit::kBlock, engine_.config());
  MatrixShares equal;
  equal.fill(0.5F);
  EXPECT_LE(ErrorOf(0, x, searched[0]), ErrorOf(0, x, equal));
  for (size_t i = 1; i < path.size(); ++i) {
    ASSERT_GT(path[i].share, path[i - 1].share);
    for (size_t m = 0; m < kMatrices; ++m) {
      ASSERT_GE(path[i].matrices[m], path[i - 1].matrices[m]);
      ASSERT_LE(path[i].matrices[m], static_cast<float>(kMaxMatrixSparsity));
    }
    // A point's error is that of its shares.
    if (i % 20 == 0) {
      EXPECT_NEAR(ErrorOf(0, x, path[i].matrices), path[i].error, 1e-6);
    }
  }
}

// Returns a path whose error grows as the square of its share.
std::vector<PathPoint> SquarePath(double scale) {
  std::vector<PathPoint> path;
  for (int i = 0; i <= 18; ++i) {
    PathPoint& point = path.emplace_back();
    point.share = 0.05F * static_cast<float>(i);
    point.error = static_cast<float>(scale) * point.share * point.share;
    point.matrices.fill(point.share);
  }
  return path;
}

TEST_F(ShareSearch, LayersThatSufferLessSkipMore) {
  ModelThresholds& thresholds = cuts_.mutable_thresholds();
  thresholds.layers[0].paths[0] = SquarePath(1);
  thresholds.layers[1].paths[0] = SquarePath(3);
  const auto shares = SplitOverLayers(thresholds, 0, engine_.config());
  const size_t n = thresholds.layers.size();
  ASSERT_EQ(n, 2U);
  for (size_t target = 0; target < kShareTargets; ++target) {
    const double first = shares[target * n];
    const double second = shares[target * n + 1];
    EXPECT_NEAR((first + second) / 2, ShareTarget(target), 1e-5);
    EXPECT_GE(first, second - 1e-6);
    // The slopes 2 a s of the two errors are equal, up to a step of the paths.
    if (ShareTarget(target) > 0.1 && first < 0.89) {
      EXPECT_NEAR(first, 3 * second, 0.16);
    }
  }
}

TEST_F(ShareSearch, ScoresWaysAndKeepsTheBest) {
  engine_.executor().set_cuts(nullptr);
  ModelThresholds thresholds = std::move(cuts_.mutable_thresholds());
  const auto text = RandomIds(48, 5);
  const auto scores =
      CalibrateThresholds(engine_, text, RandomIds(90, 6),
                          {.search_tokens = 48, .scored_tokens = 90, .progress = {}}, &thresholds);
  for (const ThresholdScore& score : scores) {
    EXPECT_NEAR(score.reached, score.share, 0.04) << static_cast<int>(score.method);
  }
  // Three splits of two methods and one of two others, each at four shares.
  ASSERT_EQ(scores.size(), 32U);
  for (size_t m = 0; m < kPathMethods; ++m) {
    ASSERT_TRUE(thresholds.best[m]);
    double best = 0;
    std::array<double, kThresholdSplits> kl{};
    for (const ThresholdScore& score : scores) {
      if (static_cast<size_t>(score.method) != m || score.share < 0.3 || score.share > 0.55)
        continue;
      kl[static_cast<size_t>(score.split)] += score.result.mean_kl;
    }
    best = kl[static_cast<size_t>(*thresholds.best[m])];
    for (size_t split = 1; split < kThresholdSplits; ++split) EXPECT_LE(best, kl[split]);
  }
  EXPECT_EQ(engine_.executor().cuts(), nullptr);
}

}  // namespace
}  // namespace thermocline
