// The escapes of Python's string literals.
#include <fmt/format.h>

#include <charconv>

#include "runtime/text/jinja/lexer.h"
#include "runtime/text/jinja/unicode.h"

namespace thermocline::jinja {
namespace {

constexpr std::string_view kSimpleEscapes = "\\'\"abfnrtv";
constexpr std::string_view kSimpleMeanings = "\\'\"\a\b\f\n\r\t\v";

// Appends the character whose number stands in the `n_digits` hexadecimal digits at `at`.
void AppendNumbered(std::string_view text, size_t at, size_t n_digits, int line,
                    std::string* decoded) {
  uint32_t codepoint = 0;
  const char* begin = text.data() + std::min(at, text.size());
  const char* end = text.data() + std::min(at + n_digits, text.size());
  const auto parsed = std::from_chars(begin, end, codepoint, 16);
  const bool whole =
      parsed.ec == std::errc() && parsed.ptr == end && static_cast<size_t>(end - begin) == n_digits;
  const bool surrogate = codepoint >= 0xD800 && codepoint < 0xE000;
  if (!whole || codepoint > 0x10FFFF || surrogate) {
    throw Failure({.what = "a string with an escape that names no character"}, line);
  }
  AppendUtf8(codepoint, decoded);
}

// Appends what the octal digits at `at` stand for, and returns how many there are.
size_t AppendOctal(std::string_view text, size_t at, std::string* decoded) {
  uint32_t codepoint = 0;
  size_t n_digits = 0;
  while (n_digits < 3 && at + n_digits < text.size() && text[at + n_digits] >= '0' &&
         text[at + n_digits] <= '7') {
    codepoint = codepoint * 8 + static_cast<uint32_t>(text[at + n_digits] - '0');
    ++n_digits;
  }
  AppendUtf8(codepoint, decoded);
  return n_digits;
}

}  // namespace

std::string DecodeStringLiteral(std::string_view text, int line) {
  std::string decoded;
  size_t at = 0;
  while (at < text.size()) {
    if (text[at] != '\\' || at + 1 == text.size()) {
      decoded += text[at++];
      continue;
    }
    const char escape = text[at + 1];
    at += 2;
    const size_t simple = kSimpleEscapes.find(escape);
    if (simple != std::string_view::npos) {
      decoded += kSimpleMeanings[simple];
    } else if (escape == 'x' || escape == 'u' || escape == 'U') {
      const size_t n_digits = escape == 'x' ? 2 : escape == 'u' ? 4 : 8;
      AppendNumbered(text, at, n_digits, line, &decoded);
      at += n_digits;
    } else if (escape >= '0' && escape <= '7') {
      at += AppendOctal(text, at - 1, &decoded) - 1;
    } else if (escape != '\n') {
      decoded += '\\';
      decoded += escape;
    }
  }
  return decoded;
}

}  // namespace thermocline::jinja
