// Which two neighbouring tokens byte-level BPE joins, into what, and which pair goes first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace thermocline {

struct BpeMerge {
  int32_t left = -1;
  int32_t right = -1;
  int32_t result = -1;
};

class MergeTable {
 public:
  static constexpr int32_t kNoRank = std::numeric_limits<int32_t>::max();
  struct Entry {
    int32_t rank = kNoRank;  // a lower one is joined first; kNoRank: never joined
    int32_t result = -1;
  };

  // merges: in the order of their ranks. Of two with the same pair the first counts.
  explicit MergeTable(const std::vector<BpeMerge>& merges);

  // Returns how two tokens are joined. Ids below 0 are joined with nothing.
  Entry Find(int32_t left, int32_t right) const {
    if ((left | right) < 0) return {};
    const uint64_t key = KeyOf(left, right);
    for (size_t slot = SlotOf(key);; slot = (slot + 1) & mask_) {
      if (slots_[slot].key == key) return slots_[slot].entry;
      if (slots_[slot].key == kFreeSlot) return {};
    }
  }

 private:
  static constexpr uint64_t kFreeSlot = std::numeric_limits<uint64_t>::max();
  struct Slot {
    uint64_t key = kFreeSlot;
    Entry entry;
  };
  static uint64_t KeyOf(int32_t left, int32_t right) {
    return static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right);
  }
  // Fibonacci hashing: the upper bits of the product are the well mixed ones.
  size_t SlotOf(uint64_t key) const { return (key * 0x9E3779B97F4A7C15ULL >> 32) & mask_; }

  std::vector<Slot> slots_;  // open addressing, at most half full; a power of two of them
  size_t mask_ = 0;
};

}  // namespace thermocline
