// Who gets a slot, and what a text begins with.
#include <algorithm>
#include <cmath>
#include <utility>

#include "runtime/core/error.h"
#include "runtime/schedule/scheduler_state.h"

namespace thermocline {

// The oldest first. Whom only a lack of pages keeps waiting keeps those behind waiting, too, so
// that nobody waits for ever; who waits for a slot of his own, or for one who reads his beginning,
// does not.
void Scheduler::State::Admit() {
  for (auto entry = waiting_.begin(); entry != waiting_.end();) {
    const auto next = std::next(entry);
    if (!slots_.AnyIdle()) return;
    const int32_t wanted = entry->text->request().slot;
    const bool waits_for_slot = wanted >= 0 && entry->text->index() == 0 && slots_.at(wanted).busy;
    const bool waits = entry->waits_for_first || waits_for_slot || WaitsForReader(*entry->text);
    if (!waits && !TryAdmit(entry)) return;
    entry = next;
  }
}

// Prompts are read one after the other anyway, so that waiting costs nothing.
bool Scheduler::State::WaitsForReader(const TextRun& text) {
  if (!options_.keeps_prefixes || !text.may_reuse()) return false;
  const int64_t most = text.n_ids() - 1;
  const auto ids = std::span(text.ids()).first(static_cast<size_t>(most));
  int64_t farthest = 0;
  for (const Entry& entry : running_) {
    const TextRun& reader = *entry.text;
    if (PendingOf(reader) == 1 || SlotOf(reader).from_file || !(reader.kind() == text.kind())) {
      continue;
    }
    const auto parts = std::ranges::mismatch(ids, reader.ids());
    const int64_t n_common = (parts.in1 - ids.begin()) / kKvPageTokens * kKvPageTokens;
    if (n_common > FedOf(reader)) farthest = std::max(farthest, n_common);
  }
  return farthest > 0 && farthest > prefixes_.Find(text.kind(), text.ids(), most);
}

bool Scheduler::State::TryAdmit(Entries::iterator waiting) {
  const TextRun& text = *waiting->text;
  if (!HasPagesFor(text)) return false;
  const Request& request = text.request();
  // One token at least must be fed, to know what follows it.
  const int64_t most = text.n_ids() - 1;
  int64_t n_kept = text.may_reuse() ? prefixes_.Find(text.kind(), text.ids(), most) : 0;
  const bool has_own = request.slot >= 0 && text.index() == 0;
  std::optional<int32_t> slot;
  if (has_own) {
    slot = request.slot;
  } else {
    slot = slots_.Choose(text.kind(), text.ids(),
                         text.may_reuse() ? options_.slot_similarity : HUGE_VAL);
  }
  const auto reusable = [&](int32_t held) {
    const bool may = text.may_reuse() && (has_own || !slots_.at(held).from_file);
    return may ? slots_.Reusable(held, text.kind(), text.ids(), most) : 0;
  };
  if (!has_own && n_kept > 0 && n_kept >= reusable(*slot)) {
    slot = slots_.Choose(text.kind(), text.ids(), HUGE_VAL);
  }
  Slot& chosen = slots_.at(*slot);
  const int64_t n_in_slot = reusable(*slot);
  if (n_in_slot > 0 && n_in_slot >= n_kept) {
    kv_.Truncate(chosen.sequence, n_in_slot);
    if (chosen.place.n_pages() * kKvPageTokens > n_in_slot) chosen.place = {};
    Occupy(waiting, *slot, chosen.sequence, n_in_slot);
    return true;
  }
  if (n_kept > 0) {
    n_kept = prefixes_.BringBack(text.kind(), text.ids(), n_kept,
                                 [this](size_t page_class) { return DropOldest(page_class); });
  }
  // What is taken up must be held before the slot lets go of anything.
  PrefixCache::Place place;
  const int32_t sequence =
      n_kept > 0 ? prefixes_.TakeUp(text.kind(), text.ids(), n_kept, &place) : kv_.Add();
  slots_.Empty(*slot);
  chosen.place = place;
  Occupy(waiting, *slot, sequence, n_kept);
  stats_.prefix_pages_hit += n_kept / kKvPageTokens;
  return true;
}

void Scheduler::State::Occupy(Entries::iterator waiting, int32_t slot, int32_t sequence,
                              int64_t n_cached) {
  const auto younger = std::ranges::find_if(
      running_, [&](const Entry& other) { return other.text->order() > waiting->text->order(); });
  running_.splice(younger, waiting_, waiting);
  TextRun& text = *waiting->text;
  Slot& taken = slots_.at(slot);
  taken.sequence = sequence;
  taken.kind = text.kind();
  taken.ids.clear();
  taken.busy = true;
  taken.request = text.id();
  taken.index = text.index();
  taken.last_use = prefixes_.Now();
  kv_.set_adapter_set(sequence, text.request().adapter_set);
  const bool again = text.stats().n_preempted > 0;
  text.Begin(slot, n_cached);
  if (again) {
    stats_.tokens_again += text.n_ids() - n_cached;
    return;
  }
  stats_.cached_tokens += n_cached;
  stats_.prefix_pages_missed += (text.stats().prompt_tokens - n_cached) / kKvPageTokens;
}

// Counts as if the text could share nothing, but for pages that it finds in use by others; and a
// page more for each that runs, so that who comes is not sent away again at once.
bool Scheduler::State::HasPagesFor(const TextRun& text) const {
  if (running_.empty()) return true;
  for (size_t c = 0; c < kv_.n_classes(); ++c) {
    const KvPageClass& page_class = kv_.page_class(c);
    if (page_class.window > 0) continue;  // they have room for every slot's
    std::vector<bool> used(static_cast<size_t>(page_class.n_pages));
    int64_t n_used = 0;
    const auto use = [&](std::span<const int32_t> pages) {
      int64_t n_new = 0;
      for (const int32_t page : pages) {
        if (!used[static_cast<size_t>(page)]) ++n_new;
        used[static_cast<size_t>(page)] = true;
      }
      n_used += n_new;
    };
    for (const Entry& entry : running_) {
      use(kv_.table(slots_.at(entry.text->stats().slot).sequence, c).pages);
      // What it has yet to read will be its own.
      n_used += KvPagesFor(entry.text->n_ids()) -
                KvPagesFor(kv_.length(slots_.at(entry.text->stats().slot).sequence)) + 1;
    }
    const std::vector<int32_t> shared =
        text.may_reuse() ? prefixes_.PagesOf(text.kind(), text.ids(), c) : std::vector<int32_t>{};
    use(shared);
    n_used += KvPagesFor(text.n_ids() + 1) - static_cast<int64_t>(shared.size());
    if (n_used > page_class.n_pages) return false;
  }
  return true;
}

}  // namespace thermocline
