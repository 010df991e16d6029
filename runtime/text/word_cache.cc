#include "runtime/text/word_cache.h"

#include <algorithm>
#include <functional>

namespace thermocline {

size_t WordCache::SlotOf(std::string_view word) {
  return std::hash<std::string_view>{}(word) % kSlots;
}

std::span<const int32_t> WordCache::Find(std::string_view word) const {
  if (word.size() > kMaxWordBytes) return {};
  const Slot& slot = slots_[SlotOf(word)];
  if (std::string_view(slot.word.data(), slot.n_word_bytes) != word) return {};
  return {slot.ids.data(), slot.n_ids};
}

void WordCache::Store(std::string_view word, std::span<const int32_t> ids) {
  if (word.size() > kMaxWordBytes || ids.empty() || ids.size() > kMaxIds) return;
  Slot& slot = slots_[SlotOf(word)];
  slot.n_word_bytes = static_cast<uint8_t>(word.size());
  slot.n_ids = static_cast<uint8_t>(ids.size());
  std::copy(word.begin(), word.end(), slot.word.begin());
  std::copy(ids.begin(), ids.end(), slot.ids.begin());
}

}  // namespace thermocline
