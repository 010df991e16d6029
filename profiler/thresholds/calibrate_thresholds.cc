#include "profiler/thresholds/calibrate_thresholds.h"

#include <algorithm>

#include "profiler/thresholds/share_search.h"
#include "runtime/core/error.h"
#include "runtime/engine/scoped_batch_cuts.h"

namespace thermocline {
namespace {

// Shares are means over so many tokens and all channels: hundreds are plenty.
constexpr size_t kMeasuredTokens = 256;

// Has an executor work with cuts while it lives.
class ScopedCuts {
 public:
  ScopedCuts(Executor& executor, ChannelCuts* cuts) : executor_(executor) {
    executor_.set_cuts(cuts);
  }
  ~ScopedCuts() {
    executor_.set_mode(SparseMode::kDense);
    executor_.set_cuts(nullptr);
  }
  ScopedCuts(const ScopedCuts&) = delete;
  ScopedCuts& operator=(const ScopedCuts&) = delete;

 private:
  Executor& executor_;
};

// Measures what is skipped of a text where kMeasuredShares are asked for.
std::vector<float> MeasureReached(Engine& engine, std::span<const int32_t> text, ModelCuts* cuts,
                                  ThresholdMethod method, ThresholdSplit split) {
  const ScopedBatchCuts cutting(cuts->cuts());
  engine.executor().set_mode(SparseMode::kThreshold);
  std::vector<float> reached;
  for (const double share : kMeasuredShares) {
    cuts->Choose({.method = method, .sparsity = share}, split);
    engine.Reset();
    engine.executor().ResetCounts();
    engine.Feed(text);
    reached.push_back(static_cast<float>(cuts->ShareSkipped(engine.executor().counts().channels)));
  }
  engine.Reset();
  engine.executor().set_mode(SparseMode::kDense);
  return reached;
}

// A way to choose thresholds.
struct Way {
  ThresholdMethod method;
  ThresholdSplit split;
  double share;
};

// Scores ways on held-out text; of each window they share the dense run.
std::vector<ThresholdScore> Score(Engine& engine, std::span<const int32_t> heldout, ModelCuts* cuts,
                                  const std::vector<Way>& ways, const ProgressFn& progress) {
  PerplexityOptions options;
  options.window_tokens =
      std::min<int64_t>(engine.context_tokens() - 1, static_cast<int64_t>(heldout.size()));
  options.compare_to_dense = true;
  options.mode = SparseMode::kThreshold;
  const auto choose = [&](size_t i) {
    Report(progress, "scoring thresholds", i, ways.size());
    cuts->Choose({.method = ways[i].method, .sparsity = ways[i].share}, ways[i].split);
  };
  const auto results = EvaluateWays(engine, heldout, options, ways.size(), choose);
  std::vector<ThresholdScore> scores;
  for (size_t i = 0; i < ways.size(); ++i) {
    const auto& [method, split, share] = ways[i];
    // What the counts are shares of depends on the method.
    cuts->Choose({.method = method, .sparsity = share}, split);
    scores.push_back(
        {method, split, share, cuts->ShareSkipped(results[i].counts.channels), results[i]});
  }
  Report(progress, "scoring thresholds", ways.size(), ways.size());
  return scores;
}

// Returns the split with the least divergence, the middle shares together.
ThresholdSplit BestOf(const std::vector<ThresholdScore>& scores, ThresholdMethod method) {
  std::array<double, kThresholdSplits> sums{};
  std::array<bool, kThresholdSplits> scored{};
  for (const ThresholdScore& score : scores) {
    if (score.method != method) continue;
    scored[static_cast<size_t>(score.split)] = true;
    if (score.share < 0.3 || score.share > 0.55) continue;
    sums[static_cast<size_t>(score.split)] += score.result.mean_kl;
  }
  auto best = ThresholdSplit::kUniform;
  for (size_t split = 1; split < kThresholdSplits; ++split) {
    if (scored[split] && sums[split] < sums[static_cast<size_t>(best)]) {
      best = static_cast<ThresholdSplit>(split);
    }
  }
  return best;
}

}  // namespace

std::vector<ThresholdScore> CalibrateThresholds(Engine& engine, std::span<const int32_t> text,
                                                std::span<const int32_t> heldout,
                                                const ThresholdOptions& options,
                                                ModelThresholds* thresholds) {
  const ModelConfig& config = engine.config();
  const ChannelOrders orders = ReadChannelOrders(engine.model().gguf(), config);
  ModelCuts cuts(std::move(*thresholds), config, engine.weights(), orders,
                 engine.model().executor_options().max_tokens, engine.devices());
  const ScopedCuts scoped(engine.executor(), cuts.cuts());
  const size_t most = std::min(static_cast<size_t>(options.search_tokens),
                               static_cast<size_t>(engine.model().batch_tokens()));
  const auto searched = text.first(std::min(text.size(), most));
  const bool searches = searched.size() > static_cast<size_t>(2 * kUncutPositions) &&
                        engine.executor().has_one_stream();
  for (size_t m = 0; searches && m < kPathMethods; ++m) {
    SearchShares(engine, searched, static_cast<ThresholdMethod>(m), &cuts, options.progress);
    cuts.mutable_thresholds().layer_shares[m] = SplitOverLayers(cuts.thresholds(), m, config);
  }
  const bool gated = config.layer(0).ffn.kind == FfnKind::kGated;
  const auto splits_of = [&](size_t method) {
    return method >= kPathMethods || !searches ? size_t{2} : kThresholdSplits;
  };
  const auto measured = text.first(std::min(text.size(), kMeasuredTokens));
  for (size_t m = 0; m < kThresholdMethods && measured.size() > kUncutPositions; ++m) {
    if (m >= kPathMethods && !gated) continue;
    for (size_t split = 1; split < splits_of(m); ++split) {
      Report(options.progress, "measuring shares", m, kThresholdMethods);
      auto reached = MeasureReached(engine, measured, &cuts, static_cast<ThresholdMethod>(m),
                                    static_cast<ThresholdSplit>(split));
      cuts.mutable_thresholds().reached[m][split] = std::move(reached);
    }
  }
  Report(options.progress, "measuring shares", kThresholdMethods, kThresholdMethods);
  std::vector<ThresholdScore> scores;
  const auto scored =
      heldout.first(std::min(heldout.size(), static_cast<size_t>(options.scored_tokens)));
  if (scored.size() > static_cast<size_t>(2 * kUncutPositions)) {
    std::vector<Way> ways;
    for (size_t m = 0; m < kThresholdMethods; ++m) {
      if (m >= kPathMethods && !gated) continue;
      for (size_t split = 1; split < splits_of(m); ++split) {
        for (const double share : kScoredShares) {
          ways.push_back(
              {static_cast<ThresholdMethod>(m), static_cast<ThresholdSplit>(split), share});
        }
      }
    }
    scores = Score(engine, scored, &cuts, ways, options.progress);
    for (size_t m = 0; searches && m < kPathMethods; ++m) {
      cuts.mutable_thresholds().best[m] = BestOf(scores, static_cast<ThresholdMethod>(m));
    }
  }
  *thresholds = std::move(cuts.mutable_thresholds());
  return scores;
}

}  // namespace thermocline
