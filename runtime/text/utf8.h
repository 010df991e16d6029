// UTF-8 one character at a time, with the Unicode standard's rules (table 3-7) and its practice for
// what is not UTF-8: one U+FFFD per maximal subpart (chapter 3.9, "U+FFFD Substitution of Maximal
// Subparts").
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace thermocline {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

enum class Utf8Status {
  kValid,       // a whole character
  kIncomplete,  // the text ends within a character that more bytes may complete
  kInvalid,     // whatever follows, these bytes are no character
};

struct Utf8Char {
  Utf8Status status = Utf8Status::kInvalid;
  uint32_t codepoint = 0;  // set for a valid character
  size_t n_bytes = 0;      // length of the character, or of the maximal subpart; at least 1
};

// Returns the first character of `text`. REQUIRES: text is not empty.
Utf8Char FirstUtf8Char(std::string_view text);

bool IsValidUtf8(std::string_view text);

// Returns the bytes of the valid characters at the start of a text.
size_t ValidUtf8Prefix(std::string_view text);

// Returns the text with every maximal subpart that is no character (at the end also an incomplete
// one) replaced by U+FFFD.
std::string ReplaceInvalidUtf8(std::string_view text);

}  // namespace thermocline
