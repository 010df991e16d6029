#include "runtime/text/utf8.h"

#include "runtime/core/error.h"

namespace thermocline {
namespace {

// What a first byte promises: how many bytes follow, and the range of the first of them (which is
// where overlong forms, surrogates and numbers above U+10FFFF are kept out).
struct Lead {
  int n_trailing;  // -1: no character starts with this byte
  uint8_t second_min = 0x80;
  uint8_t second_max = 0xBF;
  uint8_t payload = 0;
};

Lead Classify(uint8_t byte) {
  if (byte < 0x80) return {0, 0x80, 0xBF, byte};
  if (byte < 0xC2) return {-1};
  if (byte < 0xE0) return {1, 0x80, 0xBF, static_cast<uint8_t>(byte & 0x1F)};
  if (byte < 0xF0) {
    const auto payload = static_cast<uint8_t>(byte & 0x0F);
    if (byte == 0xE0) return {2, 0xA0, 0xBF, payload};
    if (byte == 0xED) return {2, 0x80, 0x9F, payload};
    return {2, 0x80, 0xBF, payload};
  }
  const auto payload = static_cast<uint8_t>(byte & 0x07);
  if (byte == 0xF0) return {3, 0x90, 0xBF, payload};
  if (byte < 0xF4) return {3, 0x80, 0xBF, payload};
  if (byte == 0xF4) return {3, 0x80, 0x8F, payload};
  return {-1};
}

}  // namespace

Utf8Char FirstUtf8Char(std::string_view text) {
  CHECK(!text.empty());
  const Lead lead = Classify(static_cast<uint8_t>(text[0]));
  if (lead.n_trailing < 0) return {Utf8Status::kInvalid, 0, 1};
  uint32_t codepoint = lead.payload;
  for (size_t i = 1; i <= static_cast<size_t>(lead.n_trailing); ++i) {
    if (i == text.size()) return {Utf8Status::kIncomplete, 0, i};
    const auto byte = static_cast<uint8_t>(text[i]);
    const uint8_t min = i == 1 ? lead.second_min : 0x80;
    const uint8_t max = i == 1 ? lead.second_max : 0xBF;
    if (byte < min || byte > max) return {Utf8Status::kInvalid, 0, i};
    codepoint = codepoint << 6 | (byte & 0x3F);
  }
  return {Utf8Status::kValid, codepoint, static_cast<size_t>(lead.n_trailing) + 1};
}

bool IsValidUtf8(std::string_view text) { return ValidUtf8Prefix(text) == text.size(); }

size_t ValidUtf8Prefix(std::string_view text) {
  size_t n_bytes = 0;
  while (n_bytes < text.size()) {
    if (static_cast<uint8_t>(text[n_bytes]) < 0x80) {
      ++n_bytes;
      continue;
    }
    const Utf8Char next = FirstUtf8Char(text.substr(n_bytes));
    if (next.status != Utf8Status::kValid) break;
    n_bytes += next.n_bytes;
  }
  return n_bytes;
}

std::string ReplaceInvalidUtf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Utf8Char first = FirstUtf8Char(text);
    out +=
        first.status == Utf8Status::kValid ? text.substr(0, first.n_bytes) : kReplacementCharacter;
    text.remove_prefix(first.n_bytes);
  }
  return out;
}

}  // namespace thermocline
