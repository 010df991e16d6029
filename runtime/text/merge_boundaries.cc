#include "runtime/text/merge_boundaries.h"

#include <algorithm>
#include <limits>

#include "runtime/core/error.h"
#include "runtime/text/pieces.h"
#include "runtime/text/utf8.h"

namespace thermocline {
namespace {

uint64_t PairOf(uint32_t left, uint32_t right) { return uint64_t{left} << 32 | right; }

// What stands for bytes that are no character: no piece holds it.
constexpr uint32_t kNoCharacter = std::numeric_limits<uint32_t>::max();

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

void MergeBoundaries::finish() {
  SortUnique(&pairs_);
  for (uint32_t left = 0; left < no_cut_before_space_.size(); ++left) {
    no_cut_before_space_[left] = !SafeBetween(left, kSpaceSignCodepoint);
  }
}

bool MergeBoundaries::SafeBetween(uint32_t left, uint32_t right) const {
  return !std::binary_search(pairs_.begin(), pairs_.end(), PairOf(left, right));
}

size_t MergeBoundaries::FirstWord(std::string_view text) const {
  CHECK(!text.empty());
  uint32_t left = kNoCharacter;
  for (size_t size = 0; size < text.size();) {
    Utf8Char right{Utf8Status::kValid, static_cast<uint8_t>(text[size]), 1};
    if (right.codepoint >= 0x80) right = FirstUtf8Char(text.substr(size));
    if (right.status != Utf8Status::kValid) right.codepoint = kNoCharacter;
    if (size > 0 && (right.codepoint == kSpaceSignCodepoint || size >= kLongWordBytes)) {
      const bool is_ascii = left < no_cut_before_space_.size();
      const bool is_safe = is_ascii && right.codepoint == kSpaceSignCodepoint
                               ? !no_cut_before_space_[left]
                               : SafeBetween(left, right.codepoint);
      if (is_safe) return size;
    }
    left = right.codepoint;
    size += right.n_bytes;
  }
  return text.size();
}

}  // namespace thermocline
