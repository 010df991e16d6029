#include "runtime/schedule/slots.h"

#include <algorithm>

#include "runtime/core/error.h"

namespace thermocline {

Slots::Slots(KvSequences& kv, int32_t n_slots) : kv_(kv), slots_(static_cast<size_t>(n_slots)) {}

Slots::~Slots() {
  for (const Slot& slot : slots_) {
    if (slot.sequence >= 0) kv_.Remove(slot.sequence);
  }
}

bool Slots::AnyIdle() const {
  return std::ranges::any_of(slots_, [](const Slot& slot) { return !slot.busy; });
}

int64_t Slots::Reusable(int32_t slot, const TextKind& kind, std::span<const int32_t> ids,
                        int64_t max_tokens) const {
  const Slot& held = at(slot);
  if (held.sequence < 0 || held.kind != kind) return 0;
  const auto first = ids.first(std::min(ids.size(), static_cast<size_t>(max_tokens)));
  const auto parts = std::ranges::mismatch(held.ids, first);
  return kv_.KeepableLength(held.sequence, parts.in2 - first.begin());
}

std::optional<int32_t> Slots::Choose(const TextKind& kind, std::span<const int32_t> ids,
                                     double similarity) const {
  std::optional<int32_t> best;
  double most = similarity;
  for (int32_t i = 0; i < size(); ++i) {
    if (at(i).busy || at(i).from_file) continue;
    const double share =
        static_cast<double>(Reusable(i, kind, ids, static_cast<int64_t>(ids.size()))) /
        static_cast<double>(ids.size());
    if (share > most) {
      most = share;
      best = i;
    }
  }
  if (best) return best;
  const auto last_use = [&](int32_t i) { return at(i).sequence < 0 ? 0 : at(i).last_use; };
  for (int32_t i = 0; i < size(); ++i) {
    if (!at(i).busy && (!best || last_use(i) < last_use(*best))) best = i;
  }
  return best;
}

void Slots::Empty(int32_t slot) {
  Slot& held = at(slot);
  CHECK(!held.busy);
  if (held.sequence >= 0) kv_.Remove(held.sequence);
  held.sequence = -1;
  held.ids.clear();
  held.place = {};
  held.from_file = false;
}

std::optional<int32_t> Slots::Oldest() const {
  std::optional<int32_t> oldest;
  for (int32_t i = 0; i < size(); ++i) {
    if (at(i).busy || at(i).sequence < 0) continue;
    if (!oldest || at(i).last_use < at(*oldest).last_use) oldest = i;
  }
  return oldest;
}

}  // namespace thermocline
