// The measurement behind `bench --parallel`: N sequences decoded in one pass per token, in turn
// with one of them alone.
#pragma once

#include <cstdint>
#include <vector>

#include "predictor/sparse_mode.h"
#include "runtime/engine/engine.h"
#include "tools/bench/compare_modes.h"

namespace thermocline {

struct ParallelResult {
  SparseMode mode = SparseMode::kDense;
  int64_t n_sequences = 0;
  Spread one_tokens_per_s;  // decode of one sequence alone
  Spread all_tokens_per_s;  // decode of all together
  Spread times_one;         // all_tokens_per_s over one_tokens_per_s, round by round
  // Each round's first sequence is decoded alone and among the others, and must write the same. On
  // a CPU a pass of more than 8 rows rounds differently, so the text may part where two tokens
  // nearly tie.
  // first_difference_margins has the lead that the best token had there alone.
  int64_t tokens_compared = 0;
  int64_t tokens_identical = 0;
  std::vector<float> first_difference_margins;
};

// Makes a round per prompt, with N prompts from it on, round about. Decoding is greedy. REQUIRES:
// the engine was opened for n_sequences at least; prompts that fit its context.
ParallelResult MeasureParallel(Engine& engine, SparseMode mode, int64_t n_sequences,
                               const std::vector<std::vector<int32_t>>& prompts,
                               int64_t decode_tokens);

}  // namespace thermocline
