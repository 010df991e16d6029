// What words of a text were encoded to, for the words that come again. It has a fixed size: a word
// takes the place of another with the same slot.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace thermocline {

class WordCache {
 public:
  WordCache() : slots_(kSlots) {}

  // Returns the ids that were stored for a word, or an empty span. It is valid until the next
  // Store(). REQUIRES: the word is not empty.
  std::span<const int32_t> Find(std::string_view word) const;
  // Stores a word's ids; a long word, or one of many ids or of none, is left out.
  void Store(std::string_view word, std::span<const int32_t> ids);

 private:
  static constexpr size_t kSlots = size_t{1} << 15;
  static constexpr size_t kMaxWordBytes = 22;
  static constexpr size_t kMaxIds = 10;
  struct Slot {                // 64 bytes: a cache line
    uint8_t n_word_bytes = 0;  // 0: free
    uint8_t n_ids = 0;
    std::array<char, kMaxWordBytes> word;
    std::array<int32_t, kMaxIds> ids;
  };
  static size_t SlotOf(std::string_view word);

  std::vector<Slot> slots_;
};

}  // namespace thermocline
