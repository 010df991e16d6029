// The work of `profile --thresholds` behind what is measured in passing: searches how shares are
// split, and scores the ways on held-out text.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/core/progress.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/evaluate.h"
#include "runtime/load/model_cuts.h"

namespace thermocline {

// The shares that ways are scored at.
inline constexpr double kScoredShares[] = {0.25, 0.4, 0.5, 0.6};

struct ThresholdOptions {
  int64_t search_tokens = 256;   // of a text, for the search; 0: none
  int64_t scored_tokens = 1024;  // of held-out text; 0: nothing is scored
  ProgressFn progress;
};

struct ThresholdScore {
  ThresholdMethod method = ThresholdMethod::kTeal;
  ThresholdSplit split = ThresholdSplit::kUniform;
  double share = 0;    // asked for
  double reached = 0;  // on the held-out text
  PerplexityResult result;
};

// Completes `thresholds`, as MagnitudeObserver took them, with paths and what is best. Returns the
// scores, in which the splits of one method stand by share.
// text: calibration tokens; heldout: tokens without BOS. REQUIRES: an engine opened with sets_cuts
// and, where something is scored, all_logits. Throws Interrupted.
std::vector<ThresholdScore> CalibrateThresholds(Engine& engine, std::span<const int32_t> text,
                                                std::span<const int32_t> heldout,
                                                const ThresholdOptions& options,
                                                ModelThresholds* thresholds);

}  // namespace thermocline
