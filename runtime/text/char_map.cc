#include "runtime/text/char_map.h"

#include <fmt/format.h>

#include <cstring>
#include <utility>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr char kCharsmapKey[] = "tokenizer.ggml.precompiled_charsmap";

// A unit of the array. That of a sequence's end has a bit for it and leads to one that holds a
// value in place of a label.
constexpr uint32_t kIsValue = uint32_t{1} << 31;
bool EndsSequence(uint32_t unit) { return (unit >> 8 & 1) != 0; }
uint32_t LabelOf(uint32_t unit) { return unit & (kIsValue | 0xFF); }
uint32_t OffsetOf(uint32_t unit) { return unit >> 10 << ((unit >> 9 & 1) * 8); }

[[noreturn]] void FailCharsmap(const std::string& path, std::string expected, std::string found) {
  throw Error({path, kCharsmapKey, std::move(expected), std::move(found), ""});
}

}  // namespace

CharMap::CharMap(const std::string& path, std::string_view bytes) {
  uint32_t array_bytes = 0;
  if (bytes.size() < sizeof(array_bytes)) {
    FailCharsmap(path, "at least 4 bytes", fmt::format("{}", bytes.size()));
  }
  std::memcpy(&array_bytes, bytes.data(), sizeof(array_bytes));
  bytes.remove_prefix(sizeof(array_bytes));
  if (array_bytes == 0 || array_bytes % sizeof(uint32_t) != 0 || array_bytes >= bytes.size()) {
    FailCharsmap(path,
                 fmt::format("an array of 4-byte units and replacements in {} bytes", bytes.size()),
                 fmt::format("an array of {} bytes", array_bytes));
  }
  units_.resize(array_bytes / sizeof(uint32_t));
  std::memcpy(units_.data(), bytes.data(), array_bytes);
  replacements_ = bytes.substr(array_bytes);
  CheckReplacements(path);
}

void CharMap::CheckReplacements(const std::string& path) const {
  size_t n_bytes = 0;
  for (const char c : replacements_) {
    n_bytes = c == '\0' ? 0 : n_bytes + 1;
    if (n_bytes > kMaxReplacementBytes) {
      FailCharsmap(path, fmt::format("replacements of at most {} bytes", kMaxReplacementBytes),
                   "a longer one");
    }
  }
  if (n_bytes != 0) FailCharsmap(path, "a NUL at the end of the last replacement", "none");
  for (size_t i = 0; i < units_.size(); ++i) {
    if ((units_[i] & kIsValue) != 0 || !EndsSequence(units_[i])) continue;
    const size_t end = i ^ OffsetOf(units_[i]);
    const size_t at = end < units_.size() ? units_[end] & ~kIsValue : replacements_.size();
    if (at >= replacements_.size()) {
      FailCharsmap(path, "replacements inside of it",
                   fmt::format("one beyond its end, of unit {}", i));
    }
  }
}

CharMap::Match CharMap::Find(std::string_view text) const {
  if (units_.empty()) return {};
  Match longest;
  uint32_t value = 0;
  uint32_t node = OffsetOf(units_[0]);
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    node ^= byte;
    if (byte == 0 || node >= units_.size() || LabelOf(units_[node]) != byte) break;
    const uint32_t unit = units_[node];
    node ^= OffsetOf(unit);
    if (!EndsSequence(unit)) continue;
    longest.n_bytes = i + 1;
    value = units_[node] & ~kIsValue;
  }
  if (longest.n_bytes > 0) longest.replacement = replacements_.c_str() + value;
  return longest;
}

}  // namespace thermocline
