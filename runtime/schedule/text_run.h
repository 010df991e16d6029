// A continuation of a request while a scheduler works on it: its tokens, how the next one is
// chosen, and what its listener is told.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/sampling/sampler.h"
#include "runtime/schedule/prefix_cache.h"
#include "runtime/schedule/request.h"
#include "runtime/speculate/speculator.h"
#include "runtime/text/tokenizer.h"

namespace thermocline {

// What all continuations of a request share.
struct SharedRequest {
  RequestId id = 0;
  Request request;
  std::shared_ptr<RequestListener> listener;
};

class TextRun {
 public:
  // order: the lower, the older. The tokenizer must outlive it.
  TextRun(std::shared_ptr<const SharedRequest> shared, int32_t index, int64_t order,
          const Tokenizer& tokenizer);

  const Request& request() const { return shared_->request; }
  RequestId id() const { return shared_->id; }
  int32_t index() const { return index_; }
  int64_t order() const { return order_; }
  TextKind kind() const { return {request().adapter_set, request().cache_salt}; }

  // Prompt and what was written: all that is or will be fed.
  const std::vector<int32_t>& ids() const { return ids_; }
  int64_t n_ids() const { return static_cast<int64_t>(ids_.size()); }
  // So many of its first tokens were fed as a prompt, or will be; the others one by one, as they
  // were written.
  int64_t n_fed_as_prompt() const { return n_fed_as_prompt_; }
  bool has_written() const { return stats_.generated_tokens > 0; }
  const RunStats& stats() const { return stats_; }

  // Whether it may begin with what is there of it; a mean needs every token fed.
  bool may_reuse() const {
    const bool needs_all =
        request().kind == RequestKind::kEmbed && request().pooling == Pooling::kMean;
    return request().use_cache && !needs_all;
  }

  // Has a slot, and n_cached of its tokens in the KV cache already.
  void Begin(int32_t slot, int64_t n_cached);
  // The first n_fed of ids() are in the KV cache now.
  void HaveFed(int64_t n_fed);
  // Has given its slot back and will be fed again.
  void Preempt();
  // Has dropped the tokens [n_keep, n_keep + n_dropped).
  void Shift(int64_t n_keep, int64_t n_dropped);

  // How many of the best logits decide its next token, as a rule (a mask may forbid too many of
  // them); 0: all are needed.
  int64_t n_deciding() const;
  enum class Step : uint8_t { kGoesOn, kEnded, kNeedsAll };
  struct Written {
    Step step = Step::kGoesOn;
    EndReason reason = EndReason::kEndOfText;  // where it ended
    int32_t id = -1;                           // what was chosen
  };
  // Chooses the next token, adds it and tells the listener. Throws what sampler and mask throw.
  // Only where `best` do not decide it does nothing (kNeedsAll). proposal: what a draft drew for it
  // (Sampler::Sample), or null.
  Written Write(const NextLogits& logits, const Proposal* proposal = nullptr);
  // For who drafts: what it would be asked for, in slot `text` and with so many tokens at most. The
  // run must stay as it is while that is used.
  SpeculatedText ForDraft(int32_t sequence, int64_t most) const;
  void CountDraft(int64_t n_drafted, int64_t n_accepted);

  // For kEmbed: the hidden states of tokens that were fed, in their order: (n, width).
  void AddHidden(std::span<const float> hidden, size_t width);
  void TellEmbedding();
  // Tells the listener, for the last time.
  void End(EndReason reason, const std::string& error = {});

 private:
  using Clock = std::chrono::steady_clock;

  bool Ends(int32_t id) const;
  bool Tell(int32_t id, bool ends, std::span<const float> logits);

  std::shared_ptr<const SharedRequest> shared_;
  int32_t index_;
  int64_t order_;
  const Tokenizer& tokenizer_;
  Sampler sampler_;
  std::unique_ptr<TokenMask> mask_;
  std::vector<int32_t> ids_;
  int64_t n_fed_as_prompt_;
  std::vector<float> embedding_;  // the sum so far, or the last
  RunStats stats_;
  Clock::time_point submitted_ = Clock::now();
  Clock::time_point began_ = {};
  Clock::time_point first_token_ = {};
};

// The probabilities of all tokens by the model's logits, in logarithms: that of `id`, and the n
// likeliest, best first.
struct TokenProbs {
  float logprob = 0;
  std::vector<TokenProb> likeliest;
};
TokenProbs ProbsOf(std::span<const float> logits, int32_t id, int64_t n);

}  // namespace thermocline
