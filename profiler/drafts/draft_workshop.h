// What making drafts takes: texts, statistics, and an engine with the neurons in their order.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "profiler/activations/profile_stats.h"
#include "profiler/drafts/draft_build.h"
#include "profiler/drafts/draft_measure.h"
#include "runtime/engine/engine.h"

namespace thermocline {

struct DraftTextOptions {
  std::string path;
  int64_t max_tokens = 0;  // 0: all
  int64_t skip_tokens = 0;
};

struct DraftWork {
  EngineOptions engine;  // the model and the threads; the rest is set
  int64_t window_tokens = 256;
  int64_t n_forks = 64;
  int64_t max_depth = 0;  // of chains; 0: a token behind text is drafted, and no chain
  DraftRanking ranking = DraftRanking::kMass;
  ProgressFn progress;
};

// Makes the windows, and the sequences that are measured at a time, fit the model's context.
// Throws Error where it is too short to measure drafts in.
void FitWindow(const ModelConfig& config, DraftWork* work);

// Returns windows of a text, behind BOS where the vocabulary has one. Throws Error where there is
// not one whole window.
DraftTexts ReadDraftTexts(OpenedModel& model, const DraftTextOptions& text, int64_t window_tokens,
                          const ProgressFn& progress);

// Returns what a text says of the neurons: how often each is active, how much it adds, and what
// the matrices read.
ProfileStats CountForDrafts(const DraftWork& work, const DraftTexts& calibration);

class DraftWorkshop {
 public:
  // stats: of the model; all must outlive it.
  DraftWorkshop(const DraftWork& work, const ProfileStats& stats, const DraftTexts& calibration);

  DraftBuilder& builder() { return builder_; }
  Engine& engine() { return *engine_; }
  DraftMeter Meter(const DraftTexts& heldout) { return {*engine_, heldout, n_forks_}; }

 private:
  std::unique_ptr<Engine> engine_;
  DraftBuilder builder_;
  int64_t n_forks_;
};

}  // namespace thermocline
