// Feeds what was planned, and hands out what was written.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <exception>
#include <utility>

#include "runtime/core/error.h"
#include "runtime/schedule/batch_skip.h"
#include "runtime/schedule/ms_since.h"
#include "runtime/schedule/scheduler_state.h"

namespace thermocline {

namespace {

bool Embeds(const TextRun& text) { return text.request().kind == RequestKind::kEmbed; }

}  // namespace

bool Scheduler::State::Step() {
  Admit();
  std::vector<Feed> plan = Plan();
  if (plan.empty()) return !idle();  // who found no page at all has been told
  // Hidden states are handed out by passes of their own.
  std::vector<Feed> embedded;
  std::ranges::copy_if(plan, std::back_inserter(embedded),
                       [](const Feed& feed) { return Embeds(*feed.entry->text); });
  std::erase_if(plan, [](const Feed& feed) { return Embeds(*feed.entry->text); });
  if (!plan.empty()) Run(plan);
  for (const Feed& feed : embedded) EmbedSome(feed);
  return true;
}

void Scheduler::State::Run(const std::vector<Feed>& plan) {
  std::vector<SequenceInput> inputs;
  drafted_.clear();
  for (const Feed& feed : plan) {
    const TextRun& text = *feed.entry->text;
    const int64_t n_fed = FedOf(text);
    const auto unfed = std::span(text.ids()).subspan(static_cast<size_t>(n_fed));
    SequenceInput& input = inputs.emplace_back();
    input.sequence = SlotOf(text).sequence;
    input.wants_logits = feed.wants_logits;
    if (IsDrafted(feed)) {
      const DraftTree& draft = drafts_[static_cast<size_t>(feed.draft)];
      const TreeRows& rows = drafted_.try_emplace(feed.draft, unfed.first(1), draft).first->second;
      input.ids = rows.ids;
      input.all_logits = true;
      input.tree_begin = n_fed;
      input.parents = rows.parents;
    } else {
      input.ids = unfed.first(static_cast<size_t>(feed.n));
    }
  }
  const auto started = std::chrono::steady_clock::now();
  PassLogits logits;
  try {
    logits = FeedPass(plan, inputs);
  } catch (const std::exception& failure) {
    // Whose tokens they were cannot be told.
    for (const Feed& feed : plan) Finish(feed.entry, EndReason::kFailed, failure.what());
    return;
  }
  Count(plan, MsSince(started));
  ChooseSkipping();
  KeepPages(plan);
  HandOut(plan, logits);
}

// How many of the best logits decide the next tokens of all texts that are content with some; 0:
// none is.
int64_t Scheduler::State::MostDeciding(const std::vector<Feed>& plan) {
  int64_t most = 0;
  for (const Feed& feed : plan) {
    if (feed.wants_logits) most = std::max(most, feed.entry->text->n_deciding());
  }
  return most;
}

Scheduler::State::PassLogits Scheduler::State::FeedPass(const std::vector<Feed>& plan,
                                                        std::span<const SequenceInput> inputs) {
  const int64_t n_best = MostDeciding(plan);
  if (n_best == 0 || n_best > engine_.max_best()) return {.all = engine_.FeedSequences(inputs)};
  return {.best = engine_.FeedSequencesBest(inputs, n_best), .n_best = n_best};
}

void Scheduler::State::Count(const std::vector<Feed>& plan, double ms) {
  int64_t n_written = 0;
  int64_t n_read = 0;
  for (const Feed& feed : plan) {
    const bool writes = feed.entry->text->has_written() && (feed.n == 1 || IsDrafted(feed));
    (writes ? n_written : n_read) += feed.n;
    if (writes && !IsDrafted(feed)) ++stats_.written_tokens;
  }
  pace_.Measure(n_written, n_read, ms);
  if (!drafts_.empty()) {
    const bool is_pure = static_cast<size_t>(std::ranges::count_if(plan, [](const Feed& feed) {
                           return feed.draft >= 0;
                         })) == plan.size();
    options_.speculator->MeasurePass(drafts_, is_pure ? 0 : n_read, ms);
  }
  ++stats_.n_passes;
  stats_.n_busy_slots += static_cast<int64_t>(running_.size());
  stats_.prompt_tokens += n_read;
  (n_read > 0 ? stats_.reading_ms : stats_.writing_ms) += ms;
}

void Scheduler::State::ChooseSkipping() {
  if (options_.rates == nullptr) return;
  const int64_t n_counted = engine_.executor().counts().tokens;
  if (n_counted < next_choice_tokens_) return;
  next_choice_tokens_ = 2 * n_counted;
  engine_.executor().set_skip_rows(ChooseSkipRows(engine_, *options_.rates));
}

void Scheduler::State::KeepPages(const std::vector<Feed>& plan) {
  for (const Feed& feed : plan) {
    TextRun& text = *feed.entry->text;
    const int64_t n_fed = FedOf(text);
    if (n_fed > text.n_ids()) continue;  // a draft, of which is not known yet what is kept
    stats_.longest_text = std::max(stats_.longest_text, n_fed);
    Slot& slot = SlotOf(text);
    if (options_.keeps_prefixes && !slot.from_file) {
      prefixes_.Keep(text.kind(), text.ids(), slot.sequence, &slot.place);
    }
    text.HaveFed(n_fed);
  }
}

NextLogits Scheduler::State::LogitsOf(const TextRun& text, const PassLogits& logits, size_t row) {
  if (logits.n_best == 0) {
    const auto width = static_cast<size_t>(engine_.config().vocab_size);
    return {.all = logits.all.subspan(row * width, width)};
  }
  if (text.n_deciding() == 0) return {.all = engine_.LogitsOfRow(static_cast<int64_t>(row))};
  return {.best = logits.best[row], .n_best = logits.n_best};
}

void Scheduler::State::HandOut(const std::vector<Feed>& plan, const PassLogits& logits) {
  size_t row = 0;
  for (const Feed& feed : plan) {
    if (!feed.wants_logits) continue;
    if (IsDrafted(feed)) {
      WriteDrafted(feed, logits, row);
      row += static_cast<size_t>(feed.n);
      continue;
    }
    std::vector<Entries::iterator> writers = ForkSiblings(feed.entry);
    writers.push_back(feed.entry);
    const NextLogits next = LogitsOf(*feed.entry->text, logits, row);
    if (feed.draft >= 0) {
      const int32_t slot = feed.entry->text->stats().slot;
      options_.speculator->Verified(slot, drafts_[static_cast<size_t>(feed.draft)],
                                    DraftTree::kText, false, 1);
    }
    for (const auto writer : writers) WriteNext(writer, next, row);
    ++row;
  }
}

void Scheduler::State::EmbedSome(const Feed& feed) {
  TextRun& text = *feed.entry->text;
  const auto unfed = std::span(text.ids()).subspan(static_cast<size_t>(FedOf(text)));
  try {
    const auto hidden = engine_.FeedHidden(
        {.sequence = SlotOf(text).sequence, .ids = unfed.first(static_cast<size_t>(feed.n))});
    text.AddHidden(hidden, static_cast<size_t>(engine_.config().d_model));
  } catch (const std::exception& failure) {
    return Finish(feed.entry, EndReason::kFailed, failure.what());
  }
  ++stats_.n_passes;
  stats_.prompt_tokens += feed.n;
  KeepPages({feed});
  if (PendingOf(text) > 0) return;
  text.TellEmbedding();
  Finish(feed.entry, EndReason::kEndOfText);
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

TextRun::Written Scheduler::State::WriteToken(TextRun& text, const NextLogits& logits, size_t row,
                                              const Proposal* proposal) {
  TextRun::Written written = text.Write(logits, proposal);
  if (written.step == TextRun::Step::kNeedsAll) {
    ++stats_.n_all_fetched;
    written = text.Write({.all = engine_.LogitsOfRow(static_cast<int64_t>(row))}, proposal);
  }
  ++stats_.generated_tokens;
  return written;
}

void Scheduler::State::WriteNext(Entries::iterator entry, const NextLogits& logits, size_t row) {
  TextRun::Written written;
  try {
    written = WriteToken(*entry->text, logits, row, nullptr);
  } catch (const std::exception& failure) {
    return Finish(entry, EndReason::kFailed, failure.what());
  }
  GoOn(entry, written);
}

void Scheduler::State::GoOn(Entries::iterator entry, const TextRun::Written& written) {
  TextRun& text = *entry->text;
  if (written.step == TextRun::Step::kEnded) return Finish(entry, written.reason);
  if (text.n_ids() < engine_.context_tokens()) return;
  if (!text.request().context_shift) return Finish(entry, EndReason::kContextFull);
  ShiftContext(text);
}

void Scheduler::State::WriteDrafted(const Feed& feed, const PassLogits& logits, size_t first_row) {
  TextRun& text = *feed.entry->text;
  const int32_t sequence = SlotOf(text).sequence;
  const DraftTree& draft = drafts_[static_cast<size_t>(feed.draft)];
  const TreeRows& rows = drafted_.at(feed.draft);
  const int64_t n_before = FedOf(text) - feed.n;
  int32_t at = DraftTree::kText;  // of the draft, up to where the text goes along with it
  int64_t n_accepted = 0;
  int64_t n_used = 0;               // rows whose logits were
  int32_t last = DraftTree::kText;  // of them
  bool goes_along = true;
  TextRun::Written written;
  std::string failure;
  while (goes_along && written.step == TextRun::Step::kGoesOn && failure.empty()) {
    const size_t row = first_row + static_cast<size_t>(rows.RowOf(at));
    const std::optional<Proposal> drawn = draft.DrawnBehind(at);
    last = at;
    ++n_used;
    try {
      written = WriteToken(text, LogitsOf(text, logits, row), row, drawn ? &*drawn : nullptr);
    } catch (const std::exception& error) {
      failure = error.what();
      continue;
    }
    const int32_t next = draft.ChildWith(at, written.id);
    goes_along = next != DraftTree::kNothing;
    if (goes_along) {
      at = next;
      ++n_accepted;
    }
  }
  // What the text did not go along with was never there.
  engine_.KeepPath(sequence, n_before, rows.PathTo(draft, last));
  text.CountDraft(feed.n - 1, n_accepted);
  stats_.written_tokens += n_used;
  options_.speculator->Verified(text.stats().slot, draft, at, !goes_along, n_used);
  KeepPages({feed});
  if (!failure.empty()) return Finish(feed.entry, EndReason::kFailed, failure);
  GoOn(feed.entry, written);
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
