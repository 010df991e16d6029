#include "profiler/synthetic/synth_profile.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "profiler/activations/activation_counter.h"
#include "profiler/placement/place.h"
#include "profiler/synthetic/synth_tokens.h"
#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"
#include "runtime/synth/synth_random.h"

namespace thermocline {
namespace {

SplitActivity CountRandomTokens(Engine& engine, const SynthOptions& options,
                                const ActivityCheckOptions& check) {
  const int64_t wanted = check.n_tokens > 0 ? check.n_tokens : TokensToMeasure(engine.config());
  const ChannelOrders file_order;
  ActivationCounter counter(engine.config(), ChannelNorms(engine.model(), file_order), file_order,
                            0);
  SplitActivity split;
  counter.CountInto(&split, nullptr);
  const ScopedObserver watching(engine.executor(), &counter);
  RandomTokens tokens(MixBits(options.seed + 1), engine.config().vocab_size);
  while (split.n_tokens < wanted) {
    ThrowIfInterrupted();
    Report(check.progress, "measuring activity", static_cast<uint64_t>(split.n_tokens),
           static_cast<uint64_t>(wanted));
    engine.Reset();
    const int64_t n = std::min(engine.context_tokens(), wanted - split.n_tokens);
    engine.Feed(tokens.Next(n));
    split.n_tokens += n;
  }
  return split;
}

// Ranks n values: 1 for the smallest to n. Equal ones share the mean of theirs.
template <typename T>
std::vector<double> RanksOf(const std::vector<T>& values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] < values[b]; });
  std::vector<double> ranks(values.size());
  for (size_t first = 0; first < order.size();) {
    size_t last = first + 1;
    while (last < order.size() && values[order[last]] == values[order[first]]) ++last;
    const double rank = 0.5 * static_cast<double>(first + 1 + last);
    for (size_t i = first; i < last; ++i) ranks[order[i]] = rank;
    first = last;
  }
  return ranks;
}

// Returns 0 where one of them does not vary.
double RankCorrelation(const std::vector<int64_t>& counts, const std::vector<double>& wanted) {
  const std::vector<double> a = RanksOf(counts);
  const std::vector<double> b = RanksOf(wanted);
  const double mean = 0.5 * static_cast<double>(a.size() + 1);
  double ab = 0;
  double aa = 0;
  double bb = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    ab += (a[i] - mean) * (b[i] - mean);
    aa += (a[i] - mean) * (a[i] - mean);
    bb += (b[i] - mean) * (b[i] - mean);
  }
  return aa > 0 && bb > 0 ? ab / std::sqrt(aa * bb) : 0;
}

double BestRankCorrelation(const std::vector<double>& wanted, int64_t n_tokens, uint64_t seed) {
  uint64_t counter = MixBits(seed + 2);
  std::vector<int64_t> counts;
  for (const double p : wanted) {
    int64_t count = 0;
    for (int64_t t = 0; t < n_tokens; ++t) {
      counter += kCounterStep;
      count += std::ldexp(static_cast<double>(MixBits(counter) >> 11), -53) < p ? 1 : 0;
    }
    counts.push_back(count);
  }
  return RankCorrelation(counts, wanted);
}

// `counts` hot to cold, as `wanted` is.
MeasuredLayer MeasuredOf(const std::vector<int64_t>& counts, const std::vector<double>& wanted,
                         int64_t n_hottest, int64_t n_tokens) {
  const auto sum = [&](size_t n) {
    return static_cast<double>(
        std::accumulate(counts.begin(), counts.begin() + static_cast<ptrdiff_t>(n), int64_t{0}));
  };
  const double all = sum(counts.size());
  MeasuredLayer layer;
  layer.density = all / static_cast<double>(n_tokens) / static_cast<double>(counts.size());
  layer.activations = all > 0 ? sum(static_cast<size_t>(n_hottest)) / all : 0;
  layer.rank_correlation = RankCorrelation(counts, wanted);
  return layer;
}

}  // namespace

ProfileStats WantedStats(const OpenedModel& model, const SynthOptions& options) {
  CHECK(options.activity && model.config().d_ff == options.d_ff &&
        model.config().n_layers == options.n_layers);
  const std::vector<double> wanted = FiringProbabilities(*options.activity, options.d_ff);
  SplitActivity split;
  split.n_tokens = kNominalTokens;
  split.corpus_hash = kSyntheticCorpus;
  for (int64_t l = 0; l < options.n_layers; ++l) {
    LayerActivity layer{std::vector<int64_t>(wanted.size()), std::vector<double>(wanted.size())};
    const std::vector<int32_t> order = HotToCold(options.seed, l, options.d_ff);
    for (size_t rank = 0; rank < wanted.size(); ++rank) {
      const auto neuron = static_cast<size_t>(order[rank]);
      layer.count[neuron] = std::llround(wanted[rank] * static_cast<double>(kNominalTokens));
      // The mass is the mean |h|, since up . x is normal by itself. All neurons' down columns are
      // equally long, so their length is left out. It falls with the rank, which puts equal counts
      // in order.
      const double gate = MomentsOf(options.activation, NormalQuantile(wanted[rank])).mean;
      layer.mass[neuron] =
          gate * std::sqrt(2 / std::numbers::pi) * static_cast<double>(kNominalTokens);
    }
    split.layers.push_back(std::move(layer));
  }
  ProfileStats stats;
  stats.model_fingerprint = PlacementFingerprint(model.gguf());
  stats.context_tokens = model.context_tokens();
  stats.heldout = split;
  stats.calibration = std::move(split);
  return stats;
}

double ActivityCheck::Deviation(const ActivityTarget& target) const {
  double most = 0;
  for (const MeasuredLayer& layer : layers) {
    most = std::max({most, std::abs(layer.density / target.density - 1),
                     std::abs(layer.activations / target.activations - 1)});
  }
  return most;
}

ActivityCheck MeasureActivity(const std::string& model_path, const SynthOptions& options,
                              const ActivityCheckOptions& check) {
  CHECK(options.activity.has_value());
  Engine engine(MeasuringEngine(model_path, options, check.n_threads, check.progress));
  const SplitActivity measured = CountRandomTokens(engine, options, check);

  const std::vector<double> wanted = FiringProbabilities(*options.activity, options.d_ff);
  const int64_t n_hottest = HottestNeurons(*options.activity, options.d_ff);
  ActivityCheck result;
  result.n_tokens = measured.n_tokens;
  const auto share = 1 / static_cast<double>(options.n_layers);
  for (int64_t l = 0; l < options.n_layers; ++l) {
    const std::vector<int64_t>& by_neuron = measured.layers[static_cast<size_t>(l)].count;
    std::vector<int64_t> counts;
    for (const int32_t neuron : HotToCold(options.seed, l, options.d_ff)) {
      counts.push_back(by_neuron[static_cast<size_t>(neuron)]);
    }
    result.layers.push_back(MeasuredOf(counts, wanted, n_hottest, measured.n_tokens));
    const MeasuredLayer& layer = result.layers.back();
    result.mean.density += share * layer.density;
    result.mean.activations += share * layer.activations;
    result.mean.rank_correlation += share * layer.rank_correlation;
  }
  result.best_rank_correlation = BestRankCorrelation(wanted, measured.n_tokens, options.seed);
  return result;
}

}  // namespace thermocline
