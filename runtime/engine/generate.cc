#include "runtime/engine/generate.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

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
  const auto n_pending = static_cast<int64_t>(pending_.size());
  return std::max<int64_t>(0, engine_.context_tokens() - engine_.n_past() - n_pending);
}

void Generator::Reset() {
  engine_.Reset();
  pending_.clear();
  sampler_ = Sampler(options_);
}

void Generator::CheckRoom(const std::vector<int32_t>& ids) const {
  const auto n_needed = static_cast<int64_t>(ids.size() + pending_.size());
  if (n_needed <= engine_.context_tokens() - engine_.n_past()) return;
  throw Error({.what = at_start() ? "the prompt is longer than the context"
                                  : "the text does not fit into what is left of the context",
               .expected = fmt::format("at most {} tokens", room_tokens()),
               .found = std::to_string(ids.size()),
               .hint = fmt::format("shorten it or raise the context size, to at most {}",
                                   engine_.config().max_seq_len),
               .settings = {{Setting::kContextSize}}});
}

Generation Generator::Continue(const std::vector<int32_t>& ids, int64_t max_tokens,
                               const TextSink& sink) {
  CHECK(!ids.empty() || can_go_on());
  CheckRoom(ids);
  std::vector<int32_t> unread = pending_;
  unread.insert(unread.end(), ids.begin(), ids.end());
  Generation generation;
  const Stopwatch prefill;
  const std::optional<Choices> choices = Read(unread);
  generation.prefill_ms = prefill.ms();
  if (!choices) {
    generation.stop = StopReason::kInterrupted;
    return generation;
  }
  generation.prompt_tokens = static_cast<int64_t>(unread.size());
  pending_.clear();
  for (const int32_t id : ids) sampler_.Accept(id);
  const Stopwatch decode;
  generation.stop = Write(*choices, max_tokens, sink, &generation);
  generation.decode_ms = decode.ms();
  return generation;
}

Generator::Choices Generator::Feed(std::span<const int32_t> ids, const FeedProgress& progress) {
  if (FeedsBest()) return {.best = engine_.FeedBest(ids, n_best(), progress)};
  return {.logits = engine_.Feed(ids, progress)};
}

int32_t Generator::Sample(const Choices& choices) {
  return FeedsBest() ? sampler_.SampleBest(choices.best) : sampler_.Sample(choices.logits);
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
    engine_.Truncate(n_before);
    return std::nullopt;
  }
}

StopReason Generator::Write(Choices choices, int64_t max_tokens, const TextSink& sink,
                            Generation* generation) {
  StreamDecoder decoder(engine_.tokenizer(), false);
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
    if (engine_.tokenizer().EndsText(id)) {
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
