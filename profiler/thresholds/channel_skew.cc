#include "profiler/thresholds/channel_skew.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>

#include "profiler/activations/activation_counter.h"
#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"
#include "runtime/device/channel_cuts.h"
#include "runtime/pass/ffn_observer.h"

namespace thermocline {
namespace {

constexpr size_t kShares = std::size(kSkewShares);

// Of one layer: in how many tokens each channel of an input is kept, by share.
using KeptCounts = std::array<std::array<std::vector<int64_t>, kShares>, kMatrixInputs>;

// Counts one text, whose first positions are never cut.
class KeptCounter final : public FfnObserver {
 public:
  KeptCounter(const ModelConfig& config, const ModelThresholds& thresholds)
      : config_(config),
        layers_(static_cast<size_t>(config.n_layers)),
        positions_(static_cast<size_t>(config.n_layers)) {
    for (const LayerThresholds& layer : thresholds.layers) {
      auto& least = least_.emplace_back();
      for (size_t i = 0; i < kMatrixInputs; ++i) {
        for (size_t s = 0; s < kShares; ++s) least[i][s] = layer.inputs[i].Quantile(kSkewShares[s]);
      }
    }
  }

  void OnFfn(const Lane& lane, const FfnObservation& seen) override {
    CHECK(seen.attention_x != nullptr && seen.slice->neuron_ids == nullptr);
    const auto l = static_cast<size_t>(seen.layer);
    const int64_t first = std::clamp<int64_t>(kUncutPositions - positions_[l], 0, seen.n_tokens);
    const int64_t d_att = config_.layer(seen.layer).attention.q_dim();
    const float* const inputs[] = {seen.attention_x, seen.attended, seen.x, seen.h};
    const int64_t dims[] = {config_.d_model, d_att, config_.d_model, seen.slice->n_neurons};
    for (size_t i = 0; i < kMatrixInputs; ++i) {
      if (static_cast<int>(i) % lane.size != lane.rank) continue;
      for (size_t s = 0; s < kShares; ++s) {
        std::vector<int64_t>& counts = layers_[l][i][s];
        counts.resize(static_cast<size_t>(dims[i]));
        for (int64_t t = first; t < seen.n_tokens; ++t) {
          Add(inputs[i] + t * dims[i], least_[l][i][s], &counts);
        }
      }
    }
    lane.Sync();
    if (lane.rank == 0) positions_[l] += seen.n_tokens;
  }

  const std::vector<KeptCounts>& layers() const { return layers_; }

 private:
  static void Add(const float* x, float least, std::vector<int64_t>* counts) {
    for (size_t j = 0; j < counts->size(); ++j) {
      (*counts)[j] += x[j] != 0 && std::abs(x[j]) >= least ? 1 : 0;
    }
  }

  const ModelConfig& config_;
  std::vector<std::array<std::array<float, kShares>, kMatrixInputs>> least_;
  std::vector<KeptCounts> layers_;
  std::vector<int64_t> positions_;  // (n_layers) of the next pass's first row
};

std::vector<KeptCounts> CountKept(Engine& engine, std::span<const int32_t> ids,
                                  const ModelThresholds& thresholds) {
  ThrowIfInterrupted();
  KeptCounter counter(engine.config(), thresholds);
  const ScopedObserver watching(engine.executor(), &counter);
  engine.Reset();
  engine.Feed(ids);
  engine.Reset();
  return counter.layers();
}

// Returns the sums of what a fraction of the channels is kept, those of the largest `rank` first.
std::array<int64_t, kHottestFractions.size()> SumsOfHottest(const std::vector<int64_t>& rank,
                                                            const std::vector<int64_t>& kept) {
  std::vector<size_t> order(rank.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, [&](size_t a, size_t b) { return rank[a] > rank[b]; });
  std::array<int64_t, kHottestFractions.size()> sums{};
  for (size_t f = 0; f < sums.size(); ++f) {
    const auto n =
        static_cast<size_t>(std::llround(kHottestFractions[f] * static_cast<double>(order.size())));
    for (size_t i = 0; i < n; ++i) sums[f] += kept[order[i]];
  }
  return sums;
}

}  // namespace

std::vector<ChannelSkew> MeasureChannelSkew(Engine& engine, std::span<const int32_t> text,
                                            std::span<const int32_t> heldout,
                                            const ModelThresholds& thresholds) {
  constexpr auto kShort = static_cast<size_t>(2 * kUncutPositions);
  if (std::min(text.size(), heldout.size()) <= kShort) return {};
  const auto seen = CountKept(engine, text, thresholds);
  const auto held_out = CountKept(engine, heldout, thresholds);
  const auto n_tokens = static_cast<double>(heldout.size() - kUncutPositions);
  std::vector<ChannelSkew> skews;
  for (size_t input = 0; input < kMatrixInputs; ++input) {
    for (size_t s = 0; s < kShares; ++s) {
      ChannelSkew skew{.input = input, .share = kSkewShares[s], .least = 1};
      double all = 0;
      double channels = 0;
      for (size_t l = 0; l < held_out.size(); ++l) {
        const std::vector<int64_t>& kept = held_out[l][input][s];
        const auto sums = SumsOfHottest(seen[l][input][s], kept);
        const auto of_layer =
            static_cast<double>(std::accumulate(kept.begin(), kept.end(), int64_t{0}));
        for (size_t f = 0; f < sums.size(); ++f) skew.hottest[f] += static_cast<double>(sums[f]);
        all += of_layer;
        channels += static_cast<double>(kept.size());
        if (of_layer == 0) continue;
        const double share = static_cast<double>(sums.back()) / of_layer;
        skew.least = std::min(skew.least, share);
        skew.most = std::max(skew.most, share);
      }
      if (all == 0) continue;
      for (double& share : skew.hottest) share /= all;
      skew.kept = all / channels / n_tokens;
      skews.push_back(skew);
    }
  }
  return skews;
}

}  // namespace thermocline
