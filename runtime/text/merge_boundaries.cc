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
  for (uint32_t left = 0; left < kAscii; ++left) {
    no_cut_before_space_[left] = !SafeBetween(left, kSpaceSignCodepoint);
  }
  for (const uint64_t pair : pairs_) {
    const uint64_t left = pair >> 32;
    const uint64_t right = pair & std::numeric_limits<uint32_t>::max();
    if (left < kAscii && right < kAscii) no_cut_.set(left * kAscii + right);
  }
}

bool MergeBoundaries::SafeBetween(uint32_t left, uint32_t right) const {
  return !std::binary_search(pairs_.begin(), pairs_.end(), PairOf(left, right));
}

size_t MergeBoundaries::FirstWord(std::string_view text, size_t long_word_bytes) const {
  CHECK(!text.empty());
  uint32_t left = kNoCharacter;
  for (size_t size = 0; size < text.size();) {
    const auto byte = static_cast<uint8_t>(text[size]);
    if (byte < kAscii && (left < kAscii || size == 0)) {
      if (size > 0 && !no_cut_[left * kAscii + byte]) return size;
      left = byte;
      ++size;
      continue;
    }
    const Utf8Char next = FirstUtf8Char(text.substr(size));
    const uint32_t right = next.status == Utf8Status::kValid ? next.codepoint : kNoCharacter;
    if (size > 0 && (right == kSpaceSignCodepoint || size >= long_word_bytes)) {
      const bool is_in_table = right == kSpaceSignCodepoint && left < kAscii;
      if (is_in_table ? !no_cut_before_space_[left] : SafeBetween(left, right)) return size;
    }
    left = right;
    size += next.n_bytes;
  }
  return text.size();
}

}  // namespace thermocline
