#include "runtime/text/merge_table.h"

#include <bit>

namespace thermocline {

MergeTable::MergeTable(const std::vector<BpeMerge>& merges)
    : slots_(std::bit_ceil(2 * merges.size() + 2)), mask_(slots_.size() - 1) {
  int32_t rank = 0;
  for (const BpeMerge& merge : merges) {
    const uint64_t key = KeyOf(merge.left, merge.right);
    size_t slot = SlotOf(key);
    while (slots_[slot].key != kFreeSlot && slots_[slot].key != key) slot = (slot + 1) & mask_;
    if (slots_[slot].key == kFreeSlot) slots_[slot] = {key, {rank, merge.result}};
    ++rank;
  }
}

}  // namespace thermocline
