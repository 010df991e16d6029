#include "runtime/text/merge_boundaries.h"

#include <algorithm>

#include "runtime/text/utf8.h"

namespace thermocline {
namespace {

uint64_t PairOf(uint32_t left, uint32_t right) { return uint64_t{left} << 32 | right; }

void SortUnique(std::vector<uint64_t>* values) {
  std::sort(values->begin(), values->end());
  values->erase(std::unique(values->begin(), values->end()), values->end());
}

}  // namespace

void MergeBoundaries::AddPiece(std::string_view piece) {
  if (piece.empty() || !IsValidUtf8(piece)) return;
  Utf8Char left = FirstUtf8Char(piece);
  while (piece.size() > left.n_bytes) {
    piece.remove_prefix(left.n_bytes);
    const Utf8Char right = FirstUtf8Char(piece);
    pairs_.push_back(PairOf(left.codepoint, right.codepoint));
    left = right;
  }
}

void MergeBoundaries::finish() { SortUnique(&pairs_); }

bool MergeBoundaries::SafeBetween(uint32_t left, uint32_t right) const {
  return !std::binary_search(pairs_.begin(), pairs_.end(), PairOf(left, right));
}

}  // namespace thermocline
