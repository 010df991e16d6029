// Synthetic models' activity is known before they run. Here is what was asked of one, as a profile,
// and what it really does.
#pragma once

#include <cstdint>
#include <vector>

#include "profiler/activations/profile_stats.h"
#include "runtime/engine/engine.h"
#include "runtime/synth/synth.h"

namespace thermocline {

// Counts are the wanted probabilities times this many tokens; no text was run.
inline constexpr int64_t kNominalTokens = 1000000;
inline constexpr const char* kSyntheticCorpus = "synthetic";  // in the place of a corpus hash

// Returns the statistics that endless random tokens would give, from which `Place` makes the oracle
// placement: the true order, hot to cold. REQUIRES: `model` was written with these options, which
// have an activity.
ProfileStats WantedStats(const OpenedModel& model, const SynthOptions& options);

struct ActivityCheckOptions {
  int64_t n_tokens = 0;  // 0: as many as the model's size allows in about a minute
  int n_threads = 0;
  ProgressFn progress;
};

struct MeasuredLayer {
  double density = 0;           // mean share of the neurons that fired in a token
  double activations = 0;       // share of the activations on the neurons that are to be hottest
  double rank_correlation = 0;  // Spearman's, of the neurons' counts and wanted probabilities
};

struct ActivityCheck {
  int64_t n_tokens = 0;
  std::vector<MeasuredLayer> layers;
  MeasuredLayer mean;  // over layers
  // What rank_correlation would be of neurons that fire exactly as wanted, each by itself, counted
  // over as many tokens. Rarely active neurons are counted too few times to be put in order.
  double best_rank_correlation = 0;

  // The largest relative difference from what was asked, of any layer, in density or activations.
  double Deviation(const ActivityTarget& target) const;
};

// Measures what a model does with windows of random tokens, each a sequence of its own. The tokens
// are the same for every model with these options. Throws Interrupted.
ActivityCheck MeasureActivity(const std::string& model_path, const SynthOptions& options,
                              const ActivityCheckOptions& check);

}  // namespace thermocline
