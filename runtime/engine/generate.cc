#include "runtime/engine/generate.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <utility>

#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"

namespace thermocline {
namespace {

class Stopwatch {
 public:
  double ms() const {
    return std::chrono::duration<double, std::milli>(Clock::now() - start_).count();
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
};

}  // namespace

Generation& Generation::operator+=(const Generation& other) {
  stop = other.stop;
  prompt_tokens += other.prompt_tokens;
  generated_tokens += other.generated_tokens;
  decode_passes += other.decode_passes;
  decoded_tokens += other.decoded_tokens;
  prefill_ms += other.prefill_ms;
  decode_ms += other.decode_ms;
  kept_tokens += other.kept_tokens;
  return *this;
}

SamplerOptions EndlessGreedy(const Tokenizer& tokenizer) {
  SamplerOptions greedy;
  greedy.temperature = 0;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (tokenizer.EndsText(id)) {
      greedy.logit_bias.push_back({id, -std::numeric_limits<float>::infinity()});
    }
  }
  return greedy;
}

Generator::Generator(Engine& engine, const SamplerOptions& options)
    : engine_(engine), options_(options), sampler_(options) {
  engine_.Reset();
}

std::vector<int32_t> Generator::Encode(std::string_view text) const {
  const Tokenizer& tokenizer = engine_.tokenizer();
  return at_start() && !text.empty() ? tokenizer.EncodePrompt(text) : tokenizer.Encode(text);
}

std::vector<int32_t> Generator::Ids() const {
  std::vector<int32_t> ids = cached_;
  ids.insert(ids.end(), again_.begin(), again_.end());
  ids.insert(ids.end(), pending_.begin(), pending_.end());
  return ids;
}

int64_t Generator::room_tokens() const {
  const auto n_unread = static_cast<int64_t>(again_.size() + pending_.size());
  return std::max<int64_t>(0, engine_.context_tokens() - engine_.n_past() - n_unread);
}

void Generator::set_speculator(Speculator* speculator, bool draws) {
  CHECK(speculator == nullptr ||
        speculator->options().max_tokens <= engine_.model().options().drafted_rows);
  speculator_ = speculator;
  draws_ = draws;
}

void Generator::Reset() {
  TruncateTo(0);
  pending_.clear();
  sampler_ = Sampler(options_);
  if (speculator_ != nullptr) speculator_->Forget(0);
}

void Generator::CheckRoom(const std::vector<int32_t>& ids) const {
  const auto n_needed = static_cast<int64_t>(again_.size() + pending_.size() + ids.size());
  if (n_needed <= engine_.context_tokens() - engine_.n_past()) return;
  FailRoom(at_start() ? "the prompt is longer than the context"
                      : "the text does not fit into what is left of the context",
           room_tokens(), ids.size());
}

void Generator::FailRoom(const char* what, int64_t n_room, size_t n_found) const {
  throw Error({.what = what,
               .expected = fmt::format("at most {} tokens", n_room),
               .found = std::to_string(n_found),
               .hint = fmt::format("shorten it or raise the context size, to at most {}",
                                   engine_.config().max_seq_len),
               .settings = {{Setting::kContextSize}}});
}

Generation Generator::Continue(const std::vector<int32_t>& ids, int64_t max_tokens,
                               const TextSink& sink) {
  CHECK(!ids.empty() || can_go_on());
  CheckRoom(ids);
  std::vector<int32_t> unread = again_;
  unread.insert(unread.end(), pending_.begin(), pending_.end());
  unread.insert(unread.end(), ids.begin(), ids.end());
  return ReadAndWrite(unread, ids, max_tokens, sink);
}

Generation Generator::ContinueFrom(const std::vector<int32_t>& ids, int64_t max_tokens,
                                   const TextSink& sink) {
  CHECK(!ids.empty());
  if (static_cast<int64_t>(ids.size()) > engine_.context_tokens()) {
    FailRoom("the conversation is longer than the context", engine_.context_tokens(), ids.size());
  }
  const auto parts = std::mismatch(cached_.begin(), cached_.end(), ids.begin(), ids.end() - 1);
  const int64_t n_kept = engine_.KeepableTokens(parts.second - ids.begin());
  TruncateTo(n_kept);
  pending_.clear();
  sampler_.Forget();
  const auto kept_end = ids.begin() + n_kept;
  for (auto id = ids.begin(); id != kept_end; ++id) sampler_.Accept(*id);
  const std::vector<int32_t> unread(kept_end, ids.end());
  Generation generation = ReadAndWrite(unread, unread, max_tokens, sink);
  generation.kept_tokens = n_kept;
  return generation;
}

Generation Generator::Answer(const std::vector<int32_t>& ids, int64_t max_tokens,
                             const TextSink& sink) {
  TruncateTo(0);
  pending_.clear();
  sampler_.Forget();
  const Stopwatch encoding;
  engine_.Encode(engine_.main_sequence(), ids);
  const double encoding_ms = encoding.ms();
  const std::vector<int32_t> start = {engine_.config().decoder_start};
  Generation generation = ReadAndWrite(start, start, max_tokens, sink);
  generation.prefill_ms += encoding_ms;
  generation.prompt_tokens = static_cast<int64_t>(ids.size());
  return generation;
}

void Generator::TruncateTo(int64_t n_tokens) {
  again_.clear();
  engine_.Truncate(n_tokens);
  cached_.resize(static_cast<size_t>(n_tokens));
}

bool Generator::Ends(int32_t id) const {
  return engine_.tokenizer().EndsText(id) ||
         std::find(further_ends_.begin(), further_ends_.end(), id) != further_ends_.end();
}

Generation Generator::ReadAndWrite(const std::vector<int32_t>& unread, std::span<const int32_t> ids,
                                   int64_t max_tokens, const TextSink& sink) {
  Generation generation;
  // A reply that goes on is where its mask is.
  if (!ids.empty() || !first_mask_) mask_ = first_mask_ ? first_mask_->Clone() : nullptr;
  const Stopwatch prefill;
  const std::optional<Choices> choices = Read(unread);
  generation.prefill_ms = prefill.ms();
  if (!choices) {
    generation.stop = StopReason::kInterrupted;
    return generation;
  }
  generation.prompt_tokens = static_cast<int64_t>(unread.size());
  again_.clear();
  pending_.clear();
  for (const int32_t id : ids) sampler_.Accept(id);
  const Stopwatch decode;
  generation.stop = Write(*choices, max_tokens, sink, &generation);
  generation.decode_ms = decode.ms();
  return generation;
}

Generator::Choices Generator::Feed(std::span<const int32_t> ids, const FeedProgress& progress) {
  Choices choices;
  if (FeedsBest()) {
    choices.push_back({.best = engine_.FeedBest(ids, n_best(), progress), .n_best = n_best()});
  } else {
    choices.push_back({.all = engine_.Feed(ids, progress)});
  }
  cached_.insert(cached_.end(), ids.begin(), ids.end());
  return choices;
}

int64_t Generator::MostDrafted(int64_t max_tokens, const Generation& generation) const {
  // Behind what is accepted comes one more token that was not drafted.
  int64_t most = engine_.context_tokens() - engine_.n_past() - 1;
  if (max_tokens >= 0) most = std::min(most, max_tokens - generation.generated_tokens - 1);
  return std::min(most, engine_.model().batch_tokens() - 1);
}

Generator::Choices Generator::FeedPending(int64_t most_drafted, std::optional<DraftTree>* draft) {
  if (speculator_ == nullptr) {
    Choices choices = Feed(pending_);
    pending_.clear();
    return choices;
  }
  std::vector<int32_t> text = cached_;
  text.insert(text.end(), pending_.begin(), pending_.end());
  const SpeculatedText asked{.ids = text,
                             .sequence = engine_.main_sequence(),
                             .sampler = &sampler_,
                             .mask = mask_.get(),
                             .most = most_drafted,
                             .draws = draws_,
                             .ends_text = [this](int32_t id) { return Ends(id); }};
  std::vector<DraftTree> trees = speculator_->Draft({&asked, 1});
  rows_.emplace(pending_, trees.front());
  const std::vector<int32_t>& ids = rows_->ids;
  const SequenceInput input{.sequence = engine_.main_sequence(),
                            .ids = ids,
                            .all_logits = true,
                            .tree_begin = engine_.n_past(),
                            .parents = rows_->parents};
  const auto width = static_cast<size_t>(engine_.config().vocab_size);
  const Stopwatch pass;
  Choices choices;
  if (FeedsBest()) {
    for (const auto& best : engine_.FeedSequencesBest({&input, 1}, n_best())) {
      choices.push_back({.best = best, .n_best = n_best()});
    }
  } else {
    const auto logits = engine_.FeedSequences({&input, 1});
    for (size_t row = 0; row < ids.size(); ++row) {
      choices.push_back({.all = logits.subspan(row * width, width)});
    }
  }
  speculator_->MeasurePass(trees, 0, pass.ms());
  cached_ = std::move(text);
  pending_.clear();
  draft->emplace(std::move(trees.front()));
  return choices;
}

int32_t Generator::Sample(const NextLogits& logits, size_t row, const Proposal* proposal) {
  const std::optional<int32_t> id = sampler_.SampleNext(logits, mask_.get(), proposal);
  if (id) return *id;
  // Where the mask forbids so many of the best that others decide, all are fetched.
  return sampler_.Sample(engine_.LogitsOfRow(static_cast<int64_t>(row)), mask_.get(), proposal);
}

std::optional<Generator::Choices> Generator::Read(const std::vector<int32_t>& ids) {
  const int64_t n_before = engine_.n_past();
  const auto tell = [&](size_t n_read) {
    Report(engine_.model().options().progress, "reading the prompt (tokens)", n_read, ids.size());
  };
  try {
    ThrowIfInterrupted();
    return Feed(ids, tell);
  } catch (const Interrupted&) {
    const int64_t n_kept = engine_.KeepableTokens(n_before);
    engine_.Truncate(n_kept);
    if (n_kept < n_before) again_ = std::exchange(cached_, {});
    return std::nullopt;
  }
}

std::optional<StopReason> Generator::StopNow(int64_t max_tokens, const Generation& generation) {
  if (max_tokens >= 0 && generation.generated_tokens >= max_tokens) return StopReason::kTokenLimit;
  if (InterruptRequested()) return StopReason::kInterrupted;
  return std::nullopt;
}

std::optional<StopReason> Generator::WriteRows(const Choices& choices, const DraftTree* draft,
                                               int64_t max_tokens, const TokenSink& sink,
                                               Generation* generation) {
  std::optional<StopReason> stop;
  int32_t at = DraftTree::kText;  // of the draft, up to where the text went along with it
  int64_t n_chosen = 0;
  bool goes_along = true;
  while (goes_along) {
    if (n_chosen > 0) stop = StopNow(max_tokens, *generation);
    if (stop) break;
    const auto row = static_cast<size_t>(draft != nullptr ? rows_->RowOf(at) : 0);
    const auto drawn = draft != nullptr ? draft->DrawnBehind(at) : std::nullopt;
    const int32_t id = Sample(choices[row], row, drawn ? &*drawn : nullptr);
    ++n_chosen;
    const int32_t next = draft != nullptr ? draft->ChildWith(at, id) : DraftTree::kNothing;
    goes_along = next != DraftTree::kNothing;
    if (goes_along) at = next;
    if (Ends(id)) {
      stop = StopReason::kEndOfText;
      break;
    }
    sampler_.Accept(id);
    if (mask_) mask_->Accept(id);
    ++generation->generated_tokens;
    // What goes along with the draft has been fed with it.
    (goes_along ? cached_ : pending_).push_back(id);
    sink(id);
  }
  if (draft == nullptr) return stop;
  generation->decoded_tokens += n_chosen;
  // The last token is fed with what comes next, as it is without drafts.
  if (n_chosen > 0 && pending_.empty() && stop != StopReason::kEndOfText) {
    pending_ = {cached_.back()};
    cached_.pop_back();
  }
  // What was written lies where it was drafted.
  const int64_t begin = engine_.n_past() - std::ssize(rows_->ids);
  std::vector<int32_t> path = rows_->PathTo(*draft, at);
  path.resize(cached_.size() - static_cast<size_t>(begin));
  engine_.KeepPath(engine_.main_sequence(), begin, path);
  speculator_->Verified(0, *draft, at, !goes_along, n_chosen);
  return stop;
}

StopReason Generator::Write(Choices choices, int64_t max_tokens, const TextSink& sink,
                            Generation* generation) {
  // A decoder's own text begins with no space.
  const bool begins = engine_.config().has_encoder() && engine_.n_past() == 1;
  StreamDecoder decoder(engine_.tokenizer(), begins);
  const auto hand_out = [&](const std::string& text) {
    if (!text.empty()) sink(text);
  };
  const TokenSink token = [&](int32_t id) { hand_out(decoder.Push(id)); };
  std::optional<DraftTree> draft;
  std::optional<StopReason> stop;
  while (!(stop = StopNow(max_tokens, *generation))) {
    if (!pending_.empty()) {
      if (engine_.n_past() == engine_.context_tokens()) {
        stop = StopReason::kContextFull;
        break;
      }
      draft.reset();
      choices = FeedPending(MostDrafted(max_tokens, *generation), &draft);
      ++generation->decode_passes;
      if (!draft) ++generation->decoded_tokens;
    }
    stop = WriteRows(choices, draft ? &*draft : nullptr, max_tokens, token, generation);
    if (stop) break;
  }
  hand_out(decoder.Finish());
  return *stop;
}

}  // namespace thermocline
