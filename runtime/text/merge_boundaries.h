// Finds where a text can be cut so that its halves encode to the same tokens as the whole.
//
// BPE joins two neighbouring symbols only when their concatenation is a piece. A join across the
// place between characters a and b makes a piece that holds "ab" inside. So where no piece of the
// vocabulary holds "ab", nothing is ever joined across, what happens on one side does not depend on
// the other, and the place is a safe one. (User-defined pieces, which are found by a scan from the
// left, are pieces too: none starts before such a place and ends behind it.)
#pragma once

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

 private:
  std::vector<uint64_t> pairs_;  // sorted: left << 32 | right of the pairs within pieces
};

}  // namespace thermocline
