// The measurement behind `bench --speculate`: the same prompts continued greedily with drafts and
// without, in turn.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/engine/engine.h"
#include "runtime/speculate/speculator.h"
#include "tools/bench/compare_modes.h"

namespace thermocline {

struct SpeculationResult {
  SparseMode mode = SparseMode::kDense;
  std::string source;
  Spread plain_tokens_per_s;  // decode
  Spread tokens_per_s;        // decode with drafts
  Spread speed_up;            // prompt by prompt
  SpeculateStats stats;
  // The texts must be the same but where two tokens nearly tie: passes of several rows round
  // differently. All tokens behind a text's first difference count as different.
  // first_difference_margins has the lead that the best token had there, in a pass by itself.
  int64_t tokens_compared = 0;
  int64_t tokens_identical = 0;
  std::vector<float> first_difference_margins;
};

// REQUIRES: the engine was opened with room for the speculator's drafts; prompts that fit its
// context.
SpeculationResult MeasureSpeculation(Engine& engine, SparseMode mode, Speculator& speculator,
                                     const std::vector<std::vector<int32_t>>& prompts,
                                     const ComparisonOptions& options);

}  // namespace thermocline
