// Which tokens the next pass feeds, and where their pages come from.
#include <algorithm>

#include "runtime/core/error.h"
#include "runtime/device/ops.h"
#include "runtime/schedule/scheduler_state.h"

namespace thermocline {

int64_t Scheduler::State::RowsOf(std::span<const Feed> plan) {
  int64_t n = 0;
  for (const Feed& feed : plan) n += feed.n;
  return n;
}

std::vector<Scheduler::State::Feed> Scheduler::State::Plan() {
  std::ranges::fill(planned_pages_, 0);
  std::vector<Entries::iterator> entries;  // the oldest first
  for (auto entry = running_.begin(); entry != running_.end(); ++entry) entries.push_back(entry);
  std::vector<Feed> plan;
  for (const auto entry : entries) {
    if (IsRunning(*entry) && PendingOf(*entry->text) == 1) PlanWriter(entry, &plan);
  }
  PlanDrafts(&plan);
  const int64_t n_written = RowsOf(plan);
  int64_t budget = engine_.model().batch_tokens() - n_written;
  if (n_written > 0 && options_.max_slowdown > 0) {
    const int64_t most = pace_.ReadTokens(options_.max_slowdown, n_written);
    if (most > 0) budget = std::min(budget, most);
    // A pass without prompts, now and then, shows what they would wait for.
    if (pace_.wants_writing()) budget = 0;
  }
  const bool feeds_again = FeedsAgain(entries, n_written);
  if (feeds_again) budget = std::min(budget, kFewTokens - n_written);
  for (const auto entry : entries) {
    if (budget <= 0) break;
    if (!IsRunning(*entry) || PendingOf(*entry->text) == 1) continue;
    if (n_written < kFewTokens && IsFedAgain(*entry->text) != feeds_again) continue;
    budget -= PlanReader(entry, budget, &plan);
  }
  return plan;
}

// Whether what is fed next was written by a text that was sent away since.
bool Scheduler::State::IsFedAgain(const TextRun& text) {
  return FedOf(text) >= text.n_fed_as_prompt();
}

// Whether this pass feeds again what texts had written before they were sent away: in passes of few
// rows, which give it the keys and values that it had (docs/few-tokens.md), and in turn with passes
// that read prompts. Where those who write make larger passes anyway there is no such choice.
bool Scheduler::State::FeedsAgain(std::span<const Entries::iterator> entries, int64_t n_written) {
  bool is_wanted = false;
  bool reads_prompts = false;
  for (const auto entry : entries) {
    if (!IsRunning(*entry) || PendingOf(*entry->text) == 1) continue;
    (IsFedAgain(*entry->text) ? is_wanted : reads_prompts) = true;
  }
  const bool is_its_turn = !reads_prompts || !fed_again_last_;
  fed_again_last_ = is_wanted && is_its_turn && n_written < kFewTokens;
  return fed_again_last_;
}

// A row for a text that is being written. Where pages are short the youngest goes, if need be the
// text itself; whose row is planned already is older and stays.
void Scheduler::State::PlanWriter(Entries::iterator entry, std::vector<Feed>* plan) {
  while (!MakeRoom(*entry->text, 1)) {
    const auto youngest = std::prev(running_.end());
    if (youngest == running_.begin()) return FailForPages(entry);
    Preempt(youngest);
    if (youngest == entry) return;
  }
  AddFeed(entry, 1, plan);
}

// How many tokens behind the text's own there are pages for, at most `most`.
int64_t Scheduler::State::RoomForDraft(const TextRun& text, int64_t most) {
  // Who is full after the pass is seen to be then, not in the middle of a draft.
  int64_t n = std::min(most, engine_.context_tokens() - text.n_ids() - 1);
  while (n > 0 && !MakeRoom(text, 1 + n)) n /= 2;
  return std::max<int64_t>(n, 0);
}

void Scheduler::State::PlanDrafts(std::vector<Feed>* writers) {
  drafts_.clear();
  if (options_.speculator == nullptr || writers->empty()) return;
  const auto n_writers = static_cast<int64_t>(writers->size());
  const int64_t share = (engine_.model().batch_tokens() - n_writers) / n_writers;
  std::vector<SpeculatedText> asked;
  for (const Feed& feed : *writers) {
    const TextRun& text = *feed.entry->text;
    const int32_t sequence = SlotOf(text).sequence;
    const int64_t room = text.has_written() ? RoomForDraft(text, share) : 0;
    asked.push_back(text.ForDraft(sequence, room));
    for (size_t c = 0; c < kv_.n_classes(); ++c) {
      planned_pages_[c] += kv_.PagesNeeded(sequence, 1 + room, c) - kv_.PagesNeeded(sequence, 1, c);
    }
  }
  drafts_ = options_.speculator->Draft(asked);
  // Now it is known how many of the pages are needed.
  std::ranges::fill(planned_pages_, 0);
  std::vector<Feed> plan;
  for (size_t i = 0; i < drafts_.size(); ++i) {
    const auto n_drafted = static_cast<int64_t>(drafts_[i].nodes().size());
    AddFeed((*writers)[i].entry, 1 + n_drafted, &plan);
    plan.back().wants_logits = true;
    plan.back().draft = static_cast<int32_t>(i);
  }
  *writers = std::move(plan);
}

// Returns how many tokens of it the pass reads: about `most`, and as many as there are pages for.
// A text that finds none takes them from the youngest, where that is younger.
int64_t Scheduler::State::PlanReader(Entries::iterator entry, int64_t most,
                                     std::vector<Feed>* plan) {
  int64_t n = std::min(most, PendingOf(*entry->text));
  // What it has written since is fed again as it was before: in passes of few rows.
  const int64_t n_of_prompt = entry->text->n_fed_as_prompt() - FedOf(*entry->text);
  if (n_of_prompt > 0) n = std::min(n, n_of_prompt);
  // A last piece of few tokens goes along with the one before it: alone it would be computed as few
  // rows are, and the others as many.
  const bool leaves_few = n < n_of_prompt && n_of_prompt - n <= kFewTokens;
  if (leaves_few && RowsOf(*plan) + n_of_prompt <= engine_.model().batch_tokens()) n = n_of_prompt;
  while (!MakeRoom(*entry->text, n)) {
    if (n > 1) {
      n = (n + 1) / 2;
      continue;
    }
    const auto youngest = std::prev(running_.end());
    if (youngest == entry) {
      if (running_.size() == 1) FailForPages(entry);
      return 0;
    }
    std::erase_if(*plan, [&](const Feed& feed) { return feed.entry == youngest; });
    Preempt(youngest);
  }
  AddFeed(entry, n, plan);
  return n;
}

// A context fits into the cache, so that this is for what nobody thought of.
void Scheduler::State::FailForPages(Entries::iterator entry) {
  Finish(entry, EndReason::kFailed, "the KV cache has too few pages for one text");
}

void Scheduler::State::AddFeed(Entries::iterator entry, int64_t n, std::vector<Feed>* plan) {
  const TextRun& text = *entry->text;
  for (size_t c = 0; c < kv_.n_classes(); ++c) {
    planned_pages_[c] += kv_.PagesNeeded(SlotOf(text).sequence, n, c);
  }
  plan->push_back({entry, n, n == PendingOf(text)});
}

bool Scheduler::State::MakeRoom(const TextRun& text, int64_t n_tokens) {
  const int32_t sequence = SlotOf(text).sequence;
  for (size_t c = 0; c < kv_.n_classes(); ++c) {
    const auto needed = [&] { return planned_pages_[c] + kv_.PagesNeeded(sequence, n_tokens, c); };
    while (kv_.pool(c).n_free() < needed()) {
      if (!DropOldest(c) && !MakeLastPageItsOwn(sequence, c)) return false;
    }
  }
  return true;
}

// Where the text would have to copy its last page because the prefix cache has it, too: lets the
// cache's go. Returns whether there was such a page.
bool Scheduler::State::MakeLastPageItsOwn(int32_t sequence, size_t page_class) {
  const KvPageTable table = kv_.table(sequence, page_class);
  const int64_t next = kv_.length(sequence);
  return table.Has(next) && prefixes_.LetGoOf(page_class, table.PageOf(next));
}

// Of what nobody who runs uses: a page of the prefix cache, or all that an idle slot holds (what
// the prefix cache has of it is then the next that goes).
bool Scheduler::State::DropOldest(size_t page_class) {
  const uint64_t of_prefixes = prefixes_.oldest_use(page_class);
  const std::optional<int32_t> slot = slots_.Oldest();
  const uint64_t of_slot = slot ? slots_.at(*slot).last_use : PrefixCache::kNever;
  if (of_slot < of_prefixes) {
    slots_.Empty(*slot);
    return true;
  }
  return prefixes_.DropOldest(page_class, CopiesPay());
}

bool Scheduler::State::CopiesPay() const {
  if (host_pages_ == nullptr || options_.kv_host_always) return host_pages_ != nullptr;
  const double read_ms = pace_.RowMs() * kKvPageTokens;
  return read_ms == 0 || host_pages_->RoundTripMs() < read_ms;
}

void Scheduler::State::Preempt(Entries::iterator running) {
  TextRun& text = *running->text;
  const int32_t slot = text.stats().slot;
  if (options_.speculator != nullptr) options_.speculator->Forget(slot);
  slots_.at(slot).busy = false;
  slots_.Empty(slot);
  text.Preempt();
  ++stats_.n_preempted;
  const auto younger = std::ranges::find_if(
      waiting_, [&](const Entry& other) { return other.text->order() > text.order(); });
  waiting_.splice(younger, running_, running);
}

}  // namespace thermocline
