// What is asked of a scheduler, and what it answers while it works on it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/core/token_logit.h"
#include "runtime/sampling/sampler.h"
#include "runtime/sampling/token_mask.h"

namespace thermocline {

enum class RequestKind : uint8_t {
  kGenerate,
  kEmbed,  // no text: the hidden states of the prompt's tokens (RequestListener::OnEmbedding)
};

enum class Pooling : uint8_t { kMean, kLast };

struct Request {
  RequestKind kind = RequestKind::kGenerate;
  // The whole text so far, BOS included. REQUIRES: not empty, every id below vocab_size.
  std::vector<int32_t> prompt;
  // How tokens are chosen; continuation i draws with seed + i.
  SamplerOptions sampler;
  // Continuations. They share the prompt's pages.
  int32_t n = 1;
  // Most tokens of a continuation; -1: until it ends or its context is full.
  int64_t max_tokens = -1;
  // Further tokens that end the text, beside those of the vocabulary (Tokenizer::EndsText). To
  // ignore those, forbid them: a logit_bias of -infinity.
  std::vector<int32_t> ends = {};
  // What constrains the text, or null. Every continuation gets a clone.
  std::shared_ptr<const TokenMask> mask = nullptr;
  // Tell of every token the n_probs likeliest, and its own probability; -1: neither. Of the model's
  // own distribution, or where after_sampling is true of what the sampler drew from.
  int64_t n_probs = -1;
  bool after_sampling = false;
  // Drafts may draw their tokens (DraftLimits::draws). False: the text of a seed is that of plain
  // decoding.
  bool draws_drafts = true;
  // Begin with what the slot, or the prefix cache, has of the prompt.
  bool use_cache = true;
  // Texts of another salt share no pages with this one's.
  std::string cache_salt = {};
  int32_t adapter_set = 0;  // Engine::AddAdapterSet
  // The slot to run in (it is waited for); -1: the one that has most of the prompt, else the one
  // that was idle for longest.
  int32_t slot = -1;
  // When the context is full, forget half of what follows the first n_keep tokens and go on (-1:
  // keep the whole prompt). What is left is fed again.
  bool context_shift = false;
  int64_t n_keep = 0;
  Pooling pooling = Pooling::kMean;
};

using RequestId = int64_t;

enum class EndReason : uint8_t {
  kEndOfText,    // the model chose a token that ends it
  kTokenLimit,   // max_tokens
  kContextFull,  // and may not be shifted
  kStopped,      // the listener said so
  kCancelled,    // Cancel, or the scheduler was stopped
  kFailed,       // RunStats::error says why
};

// What became of a continuation so far.
struct RunStats {
  int32_t slot = -1;  // -1: waits for one
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;     // of them, found in the slot or the prefix cache
  int64_t processed_tokens = 0;  // of them, fed for this request so far
  int64_t generated_tokens = 0;  // handed out, one that ends the text included
  double queue_ms = 0;           // until the first of its tokens was fed
  double prompt_ms = 0;          // from then to the first token
  double decode_ms = 0;          // from there on
  int64_t n_preempted = 0;
  int64_t n_shifted = 0;  // times the context was shifted
  int64_t n_drafted = 0;  // tokens of drafts that were verified for it
  int64_t n_draft_accepted = 0;
  std::string error = {};
};

// A token and the logarithm of its probability.
struct TokenProb {
  int32_t id = 0;
  float logprob = 0;
};

struct TokenEvent {
  int32_t index = 0;  // of the continuation, below Request::n
  int32_t id = 0;
  bool ends_text = false;  // and is not part of it
  // Where n_probs >= 0: its own, and the n_probs likeliest, best first (fewer where fewer are
  // possible).
  float logprob = 0;
  std::span<const TokenProb> likeliest = {};
  const RunStats& stats;
};

// Called on the scheduler's thread, between passes: what blocks here holds up everyone. No method
// may call the scheduler.
class RequestListener {
 public:
  virtual ~RequestListener() = default;
  // The prompt is about to be read (processed_tokens is 0), or more of it was. For the first
  // continuation only.
  virtual void OnPromptProgress(const RunStats& stats) { (void)stats; }
  // Returns whether the text shall go on (stop strings are the listener's). Its answer to a token
  // that ends the text does not matter.
  virtual bool OnToken(const TokenEvent& event) = 0;
  // (d_model), not normalised; for kEmbed, before OnEnd.
  virtual void OnEmbedding(std::span<const float> embedding) { (void)embedding; }
  // The last call for this continuation.
  virtual void OnEnd(int32_t index, EndReason reason, const RunStats& stats) = 0;
};

}  // namespace thermocline
