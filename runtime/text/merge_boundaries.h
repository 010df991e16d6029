// Finds where a text can be cut so that its halves encode to the same tokens as the whole.
//
// BPE joins two neighbouring symbols only when their concatenation is a piece. A join across the
// place between characters a and b makes a piece that holds "ab" inside. So where no piece of the
// vocabulary holds "ab", nothing is ever joined across, what happens on one side does not depend on
// the other, and the place is a safe one. (User-defined pieces, which are found by a scan from the
// left, are pieces too: none starts before such a place and ends behind it.) A unigram model, too,
// has no token across such a place, and its best sequence of tokens is the best of either side.
#pragma once

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace thermocline {

class MergeBoundaries {
 public:
  // Takes the pieces one by one. Those that are not UTF-8 never occur in text and are left out.
  void AddPiece(std::string_view piece);
  void finish();  // called after the last AddPiece

  // Whether a text may be cut between these two characters.
  bool SafeBetween(uint32_t left, uint32_t right) const;

  static constexpr size_t kLongWordBytes = 4096;
  // Returns the bytes of the first word of a text whose spaces are U+2581: up to a safe place
  // before one or between ASCII characters, from long_word_bytes on up to any safe place, or to the
  // end. So words repeat, and few places are looked up. REQUIRES: text is not empty.
  size_t FirstWord(std::string_view text, size_t long_word_bytes = kLongWordBytes) const;

 private:
  std::vector<uint64_t> pairs_;  // sorted: left << 32 | right of the pairs within pieces
  static constexpr size_t kAscii = 128;
  std::bitset<kAscii> no_cut_before_space_;  // behind which ASCII characters
  std::bitset<kAscii * kAscii> no_cut_;      // between ASCII characters: left * 128 + right
};

}  // namespace thermocline
