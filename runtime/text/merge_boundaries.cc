#include "runtime/text/merge_boundaries.h"

#include <algorithm>

#include "runtime/text/utf8.h"

namespace thermocline {
namespace {

uint64_t pair_of(uint32_t left, uint32_t right) { return uint64_t{left} << 32 | right; }

void sort_unique(std::vector<uint64_t>* values) {
  std::sort(values->begin(), values->end());
  values->erase(std::unique(values->begin(), values->end()), values->end());
}

}  // namespace

void MergeBoundaries::add_piece(std::string_view piece) {
  if (piece.empty() || !is_valid_utf8(piece)) return;
  Utf8Char left = first_utf8_char(piece);
  while (piece.size() > left.n_bytes) {
    piece.remove_prefix(left.n_bytes);
    const Utf8Char right = first_utf8_char(piece);
    pairs_.push_back(pair_of(left.codepoint, right.codepoint));
    left = right;
  }
}

void MergeBoundaries::finish() { sort_unique(&pairs_); }

bool MergeBoundaries::safe_between(uint32_t left, uint32_t right) const {
  return !std::binary_search(pairs_.begin(), pairs_.end(), pair_of(left, right));
}

}  // namespace thermocline
