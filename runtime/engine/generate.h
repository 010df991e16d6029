// The generation loop: feeds text to an engine, samples tokens, hands out the reply as it comes. A
// generator is one conversation; it goes on in the KV cache from call to call.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/engine/engine.h"
#include "runtime/sampling/sampler.h"
#include "runtime/sampling/token_mask.h"
#include "runtime/speculate/speculator.h"
#include "runtime/speculate/tree_rows.h"

namespace thermocline {

enum class StopReason : uint8_t {
  kEndOfText,   // the model ended it
  kTokenLimit,  // max_tokens
  kContextFull,
  kInterrupted,  // Ctrl-C
};

struct Generation {
  StopReason stop = StopReason::kTokenLimit;
  int64_t prompt_tokens = 0;     // fed before the first token was sampled
  int64_t generated_tokens = 0;  // handed out
  int64_t decode_passes =
      0;  // passes over the weights for them; the first token needs none of its own
  double prefill_ms = 0;
  double decode_ms = 0;
  int64_t kept_tokens = 0;     // of the prompt, in the cache already (ContinueFrom)
  int64_t decoded_tokens = 0;  // chosen by decode passes: with drafts more than one by each

  // For the totals of a conversation. Keeps the last stop reason.
  Generation& operator+=(const Generation& other);
};

// The likeliest token, and never the end of a text: for texts that are to be measured.
SamplerOptions EndlessGreedy(const Tokenizer& tokenizer);

class Generator {
 public:
  using TextSink = std::function<void(std::string_view)>;

  Generator(Engine& engine, const SamplerOptions& options);

  // The ids that `text` would add now: at the start of a conversation with BOS where the file
  // wishes it, never with EOS.
  std::vector<int32_t> Encode(std::string_view text) const;
  // The conversation so far.
  std::vector<int32_t> Ids() const;
  int64_t context_tokens() const { return engine_.context_tokens(); }
  // Tokens of text that still fit into the context.
  int64_t room_tokens() const;
  bool at_start() const { return engine_.n_past() == 0 && again_.empty() && pending_.empty(); }
  // Whether the last reply was cut short, so that it can go on without more text.
  bool can_go_on() const { return !pending_.empty(); }

  // Appends ids to the conversation and lets the model go on, for at most max_tokens (-1: until it
  // ends or the context is full). Text goes to `sink` as soon as it is whole characters. A token
  // that ends the text is neither handed out nor kept, so that the conversation can go on. When
  // interrupted while it reads the ids, the conversation is as before the call. Throws Error when
  // the ids do not fit. REQUIRES: ids not empty, or can_go_on().
  Generation Continue(const std::vector<int32_t>& ids, int64_t max_tokens, const TextSink& sink);

  // Makes `ids` the whole conversation, whatever it was before, and lets the model go on from its
  // end as Continue does. Of what the cache holds, the tokens that `ids` begins with are kept, and
  // only the others are fed; where it is all of them, the last one once more. All are fed where the
  // layers' windows have let go of what is needed (Engine::KeepableTokens). When interrupted while
  // it reads, only what was kept is left. Throws Error when the ids do not fit; then nothing
  // has changed. REQUIRES: ids not empty.
  Generation ContinueFrom(const std::vector<int32_t>& ids, int64_t max_tokens,
                          const TextSink& sink);

  // For a model with an encoder: has it read `ids`, a whole text, and writes the decoder's text
  // from its start, as Continue does; what was there before is forgotten. Its tokens count as the
  // prompt's. Throws Error when the ids do not fit. REQUIRES: ids not empty.
  Generation Answer(const std::vector<int32_t>& ids, int64_t max_tokens, const TextSink& sink);

  // From now on these tokens end a reply, too.
  void EndAlsoAt(std::vector<int32_t> ids) { further_ends_ = std::move(ids); }

  // From now on each reply is held to this mask, from its beginning on; null: to none. The mask
  // must allow the tokens that end a reply where it may end.
  void set_mask(std::unique_ptr<const TokenMask> mask) { first_mask_ = std::move(mask); }

  // From now on several tokens are verified in a pass where the speculator proposes some; null:
  // none. The text that is written has the same distribution. draws: see DraftLimits. It must
  // outlive the generator. REQUIRES: the engine has room for them (ContextOptions::drafted_rows).
  void set_speculator(Speculator* speculator, bool draws);

  // Forgets the conversation; the sampler starts anew from its seed.
  void Reset();

 private:
  void CheckRoom(const std::vector<int32_t>& ids) const;
  // Throws Error, with the context's size, about n_found tokens where there is room for n_room.
  [[noreturn]] void FailRoom(const char* what, int64_t n_room, size_t n_found) const;
  // Feeds `unread`, tells the sampler the ids, and generates.
  Generation ReadAndWrite(const std::vector<int32_t>& unread, std::span<const int32_t> ids,
                          int64_t max_tokens, const TextSink& sink);
  void TruncateTo(int64_t n_tokens);
  bool Ends(int32_t id) const;
  // What tokens are chosen from: of each row all logits, or where fewer decide and the device that
  // has them finds those, only these.
  using Choices = std::vector<NextLogits>;
  bool FeedsBest() const {
    return sampler_.n_deciding() > 0 && sampler_.n_deciding() <= engine_.max_best();
  }
  // With a mask as many as there can be: it may forbid the best.
  int64_t n_best() const { return mask_ ? engine_.max_best() : sampler_.n_deciding(); }
  Choices Feed(std::span<const int32_t> ids, const FeedProgress& progress = {});
  // Feeds what is pending, and behind it what a draft proposes.
  Choices FeedPending(int64_t most_drafted, std::optional<DraftTree>* draft);
  int32_t Sample(const NextLogits& logits, size_t row, const Proposal* proposal);
  // After the ids; none when interrupted.
  std::optional<Choices> Read(const std::vector<int32_t>& ids);
  StopReason Write(Choices choices, int64_t max_tokens, const TextSink& sink,
                   Generation* generation);
  static std::optional<StopReason> StopNow(int64_t max_tokens, const Generation& generation);
  // Writes tokens by the rows of a pass, as far as they go along with the draft. Returns why the
  // text ends, where it does.
  using TokenSink = std::function<void(int32_t)>;
  std::optional<StopReason> WriteRows(const Choices& choices, const DraftTree* draft,
                                      int64_t max_tokens, const TokenSink& sink,
                                      Generation* generation);
  // Tokens that a draft may have.
  int64_t MostDrafted(int64_t max_tokens, const Generation& generation) const;

  Engine& engine_;
  SamplerOptions options_;
  Sampler sampler_;
  std::unique_ptr<const TokenMask> first_mask_;  // where a reply begins; null: none
  std::unique_ptr<TokenMask> mask_;              // of the reply that is being written
  std::vector<int32_t> cached_;                  // what the cache holds
  std::vector<int32_t> again_;    // before that, to be fed again: a rollback could not keep it
  std::vector<int32_t> pending_;  // handed out, not in the cache yet: none or one
  std::vector<int32_t> further_ends_;
  std::optional<TreeRows> rows_;  // of the draft that was fed last
  Speculator* speculator_ = nullptr;
  bool draws_ = true;
};

}  // namespace thermocline
