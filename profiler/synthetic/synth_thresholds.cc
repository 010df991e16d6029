#include "profiler/synthetic/synth_thresholds.h"

#include <algorithm>

#include "profiler/activations/activation_counter.h"
#include "profiler/synthetic/synth_profile.h"
#include "profiler/synthetic/synth_tokens.h"
#include "profiler/thresholds/magnitude_observer.h"
#include "runtime/core/interrupt.h"
#include "runtime/placement/placement.h"

namespace thermocline {
namespace {

constexpr uint64_t kThresholdSeed = 0x7e2e5401d;

}  // namespace

ProfileStats MeasureThresholds(const std::string& model_path, const SynthOptions& options,
                               const ProgressFn& progress) {
  EngineOptions engine_options = MeasuringEngine(model_path, options, options.n_threads, progress);
  engine_options.watch_attention = true;
  Engine engine(engine_options);
  const ModelConfig& config = engine.config();
  const ChannelOrders orders;
  ActivationCounter counter(config, ChannelNorms(engine.model(), orders), orders, 0);
  MagnitudeObserver magnitudes(engine.model(), orders);
  ObserverPair both(&counter, &magnitudes);
  const ScopedObserver watching(engine.executor(), &both);
  ProfileStats stats;
  stats.model_fingerprint = PlacementFingerprint(engine.model().gguf());
  stats.context_tokens = engine.context_tokens();
  RandomTokens random(kThresholdSeed, config.vocab_size);
  const int64_t n_tokens = TokensToMeasure(config);
  const int64_t window = std::min(kSynthWindowTokens, engine.context_tokens());
  for (SplitActivity* split : {&stats.calibration, &stats.heldout}) {
    counter.CountInto(split, nullptr);
    split->corpus_hash = kSyntheticCorpus;
    for (; split->n_tokens < n_tokens; split->n_tokens += window) {
      ThrowIfInterrupted();
      Report(progress, "measuring magnitudes", static_cast<uint64_t>(split->n_tokens),
             static_cast<uint64_t>(n_tokens));
      magnitudes.BeginText();
      engine.Reset();
      engine.Feed(random.Next(window));
    }
    Report(progress, "measuring magnitudes", static_cast<uint64_t>(n_tokens),
           static_cast<uint64_t>(n_tokens));
  }
  stats.thresholds = magnitudes.Take(stats.calibration.n_tokens + stats.heldout.n_tokens);
  return stats;
}

}  // namespace thermocline
