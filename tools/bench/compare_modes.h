// The measurement behind `bench`: the same prompts go through the same weights in several modes,
// turn by turn, so that a machine whose speed drifts treats all modes alike. Decoding is greedy;
// tokens, logits and times are compared.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "predictor/sparse_mode.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/touched_bytes.h"

namespace thermocline {

struct ComparisonOptions {
  int64_t n_prompts = 20;
  int64_t prompt_tokens = 32;
  int64_t decode_tokens = 64;
  // Called before each prompt, for what must be measured while the machine is as it is then.
  std::function<void()> before_prompt;
  ProgressFn progress;
};

// Median and the 10th and 90th percentile of a set of measurements.
struct Spread {
  double median = 0;
  double p10 = 0;
  double p90 = 0;
};
Spread SpreadOf(std::vector<double> values);

struct ModeResult {
  SparseMode mode = SparseMode::kDense;
  Spread prefill_tokens_per_s;
  Spread decode_tokens_per_s;
  Spread speed_up;  // over the first mode, prompt by prompt
  TouchedBytes touched;
  std::vector<double> decode_speeds;  // tokens/s of each prompt
  double read_bytes_per_s = 0;        // weights touched per token times the median decode speed
  // The first mode's bytes over this one's: its speed-up, if the two read equally fast.
  double byte_bound = 1;
  // Comparison with the first mode. A mode that is not exact is fed the first one's tokens
  // (followed is set), so that every token is compared. An exact one is fed its own, and all after
  // a prompt's first difference count as different.
  bool followed = false;
  int64_t tokens_compared = 0;
  int64_t tokens_identical = 0;
  double mean_kl = 0;  // nats, over the tokens compared while both had been fed the same
  double recall = -1;  // recall of the predictor, where there is one
  // The lead that the first mode's best token has where the two part.
  std::vector<float> first_difference_margins;
};

// Compares the modes; the first is the baseline. prompts: token ids, BOS included. REQUIRES: the
// engine's own mode is the one that needs most (exact where it is listed), so that the weights are
// stored for all of them and all read the same.
std::vector<ModeResult> CompareModes(Engine& engine, const std::vector<SparseMode>& modes,
                                     const std::vector<std::vector<int32_t>>& prompts,
                                     const ComparisonOptions& options);

// Cuts consecutive prompts of prompt_tokens tokens from the text's tokens, with BOS in front of
// each where the vocabulary has one (it counts). Throws Error when the text is too short for
// n_prompts of them.
std::vector<std::vector<int32_t>> CutPrompts(const Tokenizer& tokenizer,
                                             std::span<const int32_t> ids,
                                             const ComparisonOptions& options);

}  // namespace thermocline
