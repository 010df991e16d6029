// Beam search: the n likeliest continuations that a search finds which keeps the n likeliest
// beginnings at every length. All beams go through the model in one pass, and share the pages of
// the KV cache that they have in common.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "runtime/engine/engine.h"

namespace thermocline {

struct BeamOptions {
  int64_t n_beams = 4;
  int64_t max_tokens = 32;         // of a continuation, the one that ends it included
  double length_penalty = 1;       // a continuation's score is sum of log p / length^penalty
  std::vector<int32_t> ends = {};  // tokens that end a continuation
  std::function<void()> prompt_is_read = {};  // called once, for who measures time
};

struct Beam {
  std::vector<int32_t> ids;  // without the prompt; the last may be a token that ends
  double score = 0;          // in nats per token^penalty
};

// Starts the main sequence anew with the prompt, and returns n_beams continuations, the best first
// (fewer where the vocabulary has fewer ways on). A search ends when no beam can come before the
// finished ones any more, or at max_tokens, as in Hugging Face transformers with early_stopping
// false. Throws Error when the context is full, Interrupted on Ctrl-C.
// REQUIRES: prompt not empty; n_beams >= 1; the engine has room for n_beams sequences beside the
// main one and batch_tokens >= n_beams.
std::vector<Beam> SearchBeams(Engine& engine, std::span<const int32_t> prompt,
                              const BeamOptions& options);

}  // namespace thermocline
