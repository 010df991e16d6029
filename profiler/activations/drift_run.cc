#include "profiler/activations/drift_run.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "profiler/activations/activation_counter.h"
#include "profiler/activations/corpus.h"
#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"

namespace thermocline {

DriftObserver::DriftObserver(const ModelConfig& config, const ChannelOrders& orders,
                             double activation_threshold, std::span<DriftSimulation> simulations)
    : config_(config),
      orders_(orders),
      activation_threshold_(activation_threshold),
      simulations_(simulations),
      n_words_(ActiveWords(config.d_ff)) {}

void DriftObserver::OnFfn(const Lane& lane, const FfnObservation& observation) {
  CHECK(observation.slice->n_neurons == config_.d_ff);
  const auto n_bits = static_cast<size_t>(observation.n_tokens * config_.n_layers) * n_words_;
  if (lane.rank == 0 && bits_.size() < n_bits) bits_.resize(n_bits);
  lane.Sync();
  const auto [begin, end] = lane.Split(observation.n_tokens);
  for (int64_t t = begin; t < end; ++t) NoteToken(observation, t);
  lane.Sync();
  if (observation.layer + 1 < config_.n_layers) return;
  if (lane.rank == 0) HandOut(observation.n_tokens);
  lane.Sync();
}

void DriftObserver::NoteToken(const FfnObservation& observation, int64_t token) {
  uint64_t* const bits = BitsOf(observation.layer, token);
  std::fill_n(bits, n_words_, uint64_t{0});
  const float* const h = observation.h + token * config_.d_ff;
  const int32_t* channels = observation.slice->neuron_ids;
  if (channels == nullptr && !orders_.empty()) {
    channels = orders_[static_cast<size_t>(observation.layer)].data();
  }
  for (int64_t i = 0; i < config_.d_ff; ++i) {
    if (!(std::abs(static_cast<double>(h[i])) > activation_threshold_)) continue;
    const auto channel = static_cast<uint64_t>(channels == nullptr ? i : channels[i]);
    bits[channel / 64] |= uint64_t{1} << (channel % 64);
  }
}

void DriftObserver::HandOut(int64_t n_tokens) {
  std::vector<ActiveBits> layers(static_cast<size_t>(config_.n_layers));
  for (int64_t t = 0; t < n_tokens; ++t) {
    for (size_t l = 0; l < layers.size(); ++l) {
      layers[l] = {BitsOf(static_cast<int64_t>(l), t), n_words_};
    }
    for (DriftSimulation& simulation : simulations_) simulation.OnToken(layers);
  }
}

Placement HottestShare(const ProfileStats& stats, double share) {
  Placement placement;
  const int64_t d_ff = stats.d_ff();
  const auto n_clusters =
      std::llround(share * static_cast<double>(d_ff) / static_cast<double>(kClusterNeurons));
  for (const LayerActivity& layer : stats.calibration.layers) {
    LayerPlacement& own = placement.layers.emplace_back();
    own.neuron_order.resize(layer.count.size());
    std::iota(own.neuron_order.begin(), own.neuron_order.end(), 0);
    std::ranges::stable_sort(own.neuron_order, [&](int32_t a, int32_t b) {
      return layer.count[static_cast<size_t>(a)] > layer.count[static_cast<size_t>(b)];
    });
    own.n_on[kVram] = std::min<int64_t>(n_clusters * kClusterNeurons, d_ff);
    own.n_on[kDram] = d_ff - own.n_on[kVram];
  }
  return placement;
}

void RunDrift(Engine& engine, std::span<const std::string> text_paths, const DriftOptions& options,
              std::span<DriftSimulation> simulations) {
  const ChannelOrders orders = ReadChannelOrders(engine.model().gguf(), engine.config());
  DriftObserver observer(engine.config(), orders, options.activation_threshold, simulations);
  const ScopedObserver watching(engine.executor(), &observer);
  for (const std::string& path : text_paths) {
    Corpus text(path, engine.tokenizer(),
                {.context_tokens = engine.context_tokens(), .max_tokens = options.max_tokens});
    const std::string name = path.substr(path.rfind('/') + 1);
    for (DriftSimulation& simulation : simulations) simulation.BeginText(name);
    for (int64_t w = 0; w < text.n_windows(); ++w) {
      ThrowIfInterrupted();
      engine.Reset();
      engine.Feed(text.NextWindow());
      Report(options.progress, name, static_cast<uint64_t>(w + 1),
             static_cast<uint64_t>(text.n_windows()));
    }
  }
}

}  // namespace thermocline
