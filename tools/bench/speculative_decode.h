// The measurement behind `bench --speculate`: the same prompts continued greedily with drafts, of
// one width or of several, and without, in turn.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "runtime/engine/engine.h"
#include "runtime/speculate/speculator.h"
#include "tools/bench/compare_modes.h"

namespace thermocline {

struct SpeculationResult {
  SparseMode mode = SparseMode::kDense;
  std::string source;
  int64_t width = 1;          // SpeculateOptions::max_children
  Spread plain_tokens_per_s;  // decode
  Spread tokens_per_s;        // decode with drafts
  Spread speed_up;            // prompt by prompt
  // Of all prompts together.
  double plain_ms_per_token = 0;
  double ms_per_token = 0;
  int64_t n_texts = 0;
  SpeculateStats stats;
  // The texts must be the same but where two tokens nearly tie: passes of several rows round
  // differently. All tokens behind a text's first difference count as different.
  // first_difference_margins has the lead that the best token had there, in a pass by itself.
  int64_t tokens_compared = 0;
  int64_t tokens_identical = 0;
  std::vector<float> first_difference_margins;
};

// By speculator, all of which may have the same source. warms_up: another one of these, which
// writes a little before anything is timed. REQUIRES: the engine was opened with room for their
// drafts; prompts that fit its context.
std::vector<SpeculationResult> MeasureSpeculation(Engine& engine, SparseMode mode,
                                                  std::span<Speculator* const> speculators,
                                                  Speculator& warms_up,
                                                  const std::vector<std::vector<int32_t>>& prompts,
                                                  const ComparisonOptions& options);

}  // namespace thermocline
