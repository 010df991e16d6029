// Feeds what was planned, and hands out what was written.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <exception>
#include <utility>

#include "runtime/core/error.h"
#include "runtime/schedule/scheduler_state.h"

namespace thermocline {

bool Scheduler::State::Step() {
  Admit();
  std::vector<Feed> plan = Plan();
  if (plan.empty()) {
    CHECK(idle());  // the oldest always gets on
    return false;
  }
  Run(plan);
  return true;
}

void Scheduler::State::Run(std::vector<Feed>& plan) {
  std::vector<SequenceInput> inputs;
  int64_t n_written = 0;
  int64_t n_read = 0;
  for (const Feed& feed : plan) {
    const TextRun& text = *feed.entry->text;
    const auto unfed = std::span(text.ids()).subspan(static_cast<size_t>(FedOf(text)));
    inputs.push_back({.sequence = SlotOf(text).sequence,
                      .ids = unfed.first(static_cast<size_t>(feed.n)),
                      .wants_logits = feed.wants_logits});
    const bool writes = text.has_written() && feed.n == 1;
    ++(writes ? n_written : n_read);
    if (!writes) n_read += feed.n - 1;
  }
  const auto started = std::chrono::steady_clock::now();
  std::span<const float> logits;
  try {
    logits = engine_.FeedSequences(inputs);
  } catch (const std::exception& failure) {
    // Whose tokens they were cannot be told.
    for (const Feed& feed : plan) Finish(feed.entry, EndReason::kFailed, failure.what());
    return;
  }
  const double ms =
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - started).count();
  pace_.Measure(n_written, n_read, ms);
  ++stats_.n_passes;
  stats_.n_busy_slots += static_cast<int64_t>(running_.size());
  stats_.prompt_tokens += n_read;
  stats_.written_rows += n_written;
  (n_read > 0 ? stats_.reading_ms : stats_.writing_ms) += ms;
  HandOut(plan, logits);
}

void Scheduler::State::HandOut(const std::vector<Feed>& plan, std::span<const float> logits) {
  const auto width = static_cast<size_t>(engine_.config().vocab_size);
  for (const Feed& feed : plan) {
    TextRun& text = *feed.entry->text;
    const int64_t n_fed = FedOf(text);
    stats_.longest_text = std::max(stats_.longest_text, n_fed);
    Slot& slot = SlotOf(text);
    if (options_.keeps_prefixes && !slot.from_file) {
      prefixes_.Keep(text.kind(), text.ids(), slot.sequence, &slot.place);
    }
    text.HaveFed(n_fed);
  }
  for (const Feed& feed : plan) {
    if (!feed.wants_logits) continue;
    const NextLogits next{.all = logits.first(width)};
    logits = logits.subspan(width);
    std::vector<Entries::iterator> writers = ForkSiblings(feed.entry);
    writers.push_back(feed.entry);
    for (const auto writer : writers) WriteNext(writer, next);
  }
}

// The request's other continuations go on from the prompt that its first one has read, as far as
// there are slots; who finds none waits for one as everyone does.
std::vector<Scheduler::State::Entries::iterator> Scheduler::State::ForkSiblings(
    Entries::iterator first) {
  std::vector<Entries::iterator> siblings;
  if (first->text->index() != 0 || first->text->has_written()) return siblings;
  const int32_t sequence = SlotOf(*first->text).sequence;
  for (auto entry = waiting_.begin(); entry != waiting_.end();) {
    const auto at = entry++;
    if (at->text->id() != first->text->id() || !at->waits_for_first) continue;
    at->waits_for_first = false;
    const auto slot = slots_.Choose(at->text->kind(), at->text->ids(), HUGE_VAL);
    if (!slot) continue;
    slots_.Empty(*slot);
    slots_.at(*slot).place = SlotOf(*first->text).place;
    slots_.at(*slot).from_file = SlotOf(*first->text).from_file;
    Occupy(at, *slot, kv_.Fork(sequence), at->text->n_ids());
    siblings.push_back(at);
  }
  return siblings;
}

void Scheduler::State::WriteNext(Entries::iterator entry, const NextLogits& logits) {
  TextRun& text = *entry->text;
  TextRun::Written written;
  try {
    written = text.Write(logits);
  } catch (const std::exception& failure) {
    return Finish(entry, EndReason::kFailed, failure.what());
  }
  ++stats_.generated_tokens;
  if (written.step == TextRun::Step::kEnded) return Finish(entry, written.reason);
  if (text.n_ids() < engine_.context_tokens()) return;
  if (!text.request().context_shift) return Finish(entry, EndReason::kContextFull);
  ShiftContext(text);
}

// Half of what may go goes. What is behind it stands at other positions now, and is fed again.
void Scheduler::State::ShiftContext(TextRun& text) {
  const int64_t context = engine_.context_tokens();
  int64_t n_keep = text.request().n_keep;
  if (n_keep < 0) n_keep = text.stats().prompt_tokens;
  const bool has_bos = text.ids().front() == engine_.tokenizer().bos_id();
  if (has_bos) n_keep = std::max<int64_t>(n_keep, 1);
  n_keep = std::min(n_keep, std::max<int64_t>(0, context - 4));
  Slot& slot = SlotOf(text);
  kv_.Truncate(slot.sequence, kv_.KeepableLength(slot.sequence, std::min(n_keep, FedOf(text))));
  slot.place = {};
  text.Shift(n_keep, std::max<int64_t>(1, (text.n_ids() - n_keep) / 2));
  ++stats_.n_shifted;
}

}  // namespace thermocline
