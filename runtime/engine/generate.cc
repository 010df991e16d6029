#include "runtime/engine/generate.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
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
  prefill_ms += other.prefill_ms;
  decode_ms += other.decode_ms;
  kept_tokens += other.kept_tokens;
  return *this;
}

Generator::Generator(Engine& engine, const SamplerOptions& options)
    : engine_(engine), options_(options), sampler_(options) {
  engine_.Reset();
}

std::vector<int32_t> Generator::Encode(std::string_view text) const {
  const Tokenizer& tokenizer = engine_.tokenizer();
  return at_start() && !text.empty() ? tokenizer.EncodePrompt(text) : tokenizer.Encode(text);
}

int64_t Generator::room_tokens() const {
  const auto n_unread = static_cast<int64_t>(again_.size() + pending_.size());
  return std::max<int64_t>(0, engine_.context_tokens() - engine_.n_past() - n_unread);
}

void Generator::Reset() {
  TruncateTo(0);
  pending_.clear();
  sampler_ = Sampler(options_);
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
    choices.best = engine_.FeedBest(ids, n_best(), progress);
  } else {
    choices.logits = engine_.Feed(ids, progress);
  }
  cached_.insert(cached_.end(), ids.begin(), ids.end());
  return choices;
}

int32_t Generator::Sample(const Choices& choices) {
  return FeedsBest() ? *sampler_.SampleBest(choices.best, n_best())
                     : sampler_.Sample(choices.logits);
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

StopReason Generator::Write(Choices choices, int64_t max_tokens, const TextSink& sink,
                            Generation* generation) {
  // A decoder's own text begins with no space.
  const bool begins = engine_.config().has_encoder() && engine_.n_past() == 1;
  StreamDecoder decoder(engine_.tokenizer(), begins);
  const auto hand_out = [&](const std::string& text) {
    if (!text.empty()) sink(text);
  };
  StopReason stop = StopReason::kTokenLimit;
  while (max_tokens < 0 || generation->generated_tokens < max_tokens) {
    if (InterruptRequested()) {
      stop = StopReason::kInterrupted;
      break;
    }
    if (!pending_.empty()) {
      if (engine_.n_past() == engine_.context_tokens()) {
        stop = StopReason::kContextFull;
        break;
      }
      choices = Feed(pending_);
      pending_.clear();
      ++generation->decode_passes;
    }
    const int32_t id = Sample(choices);
    if (Ends(id)) {
      stop = StopReason::kEndOfText;
      break;
    }
    sampler_.Accept(id);
    pending_ = {id};
    ++generation->generated_tokens;
    hand_out(decoder.Push(id));
  }
  hand_out(decoder.Finish());
  return stop;
}

}  // namespace thermocline
