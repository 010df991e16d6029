#include "runtime/text/jinja/unicode.h"

#include <locale.h>
#include <string.h>
#include <wctype.h>

#include <algorithm>
#include <utility>

#include "runtime/text/utf8.h"

namespace thermocline::jinja {
namespace {

// The C library's tables of Unicode. Where the locale is missing, only ASCII has case.
locale_t UnicodeLocale() {
  static const locale_t unicode_locale = ::newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
  return unicode_locale;
}

// Returns the character at the start, and a code point that no table knows for a broken one.
Utf8Char CharacterAt(std::string_view text) {
  Utf8Char first = FirstUtf8Char(text);
  if (first.status != Utf8Status::kValid) first.codepoint = 0xFFFFFFFF;
  return first;
}

template <typename Change>
std::string ChangeCharacters(std::string_view text, Change change) {
  std::string changed;
  changed.reserve(text.size());
  while (!text.empty()) {
    const Utf8Char first = CharacterAt(text);
    if (first.status == Utf8Status::kValid) {
      AppendUtf8(change(first.codepoint), &changed);
    } else {
      changed += text.substr(0, first.n_bytes);
    }
    text.remove_prefix(first.n_bytes);
  }
  return changed;
}

// Returns the last character.
std::string_view LastCharacter(std::string_view text) {
  size_t at = text.size() - 1;
  while (at > 0 && text.size() - at < 4 && (static_cast<uint8_t>(text[at]) & 0xC0) == 0x80) --at;
  const Utf8Char first = FirstUtf8Char(text.substr(at));
  const bool whole = first.status == Utf8Status::kValid && at + first.n_bytes == text.size();
  return whole ? text.substr(at) : text.substr(text.size() - 1);
}

template <typename Wanted>
std::string_view StripWhere(std::string_view text, Side side, Wanted wanted) {
  while (side != Side::kRight && !text.empty()) {
    const std::string_view first = text.substr(0, CharacterAt(text).n_bytes);
    if (!wanted(first)) break;
    text.remove_prefix(first.size());
  }
  while (side != Side::kLeft && !text.empty()) {
    const std::string_view last = LastCharacter(text);
    if (!wanted(last)) break;
    text.remove_suffix(last.size());
  }
  return text;
}

}  // namespace

size_t CountCharacters(std::string_view text) {
  size_t n_characters = 0;
  while (!text.empty()) {
    const bool ascii = static_cast<uint8_t>(text[0]) < 0x80;
    text.remove_prefix(ascii ? 1 : FirstUtf8Char(text).n_bytes);
    ++n_characters;
  }
  return n_characters;
}

std::vector<size_t> CharacterOffsets(std::string_view text) {
  std::vector<size_t> offsets;
  size_t at = 0;
  while (at < text.size()) {
    offsets.push_back(at);
    at += FirstUtf8Char(text.substr(at)).n_bytes;
  }
  offsets.push_back(at);
  return offsets;
}

void AppendUtf8(uint32_t codepoint, std::string* text) {
  const auto trailing = [&](int shift) {
    text->push_back(static_cast<char>(0x80 | ((codepoint >> shift) & 0x3F)));
  };
  if (codepoint < 0x80) {
    text->push_back(static_cast<char>(codepoint));
  } else if (codepoint < 0x800) {
    text->push_back(static_cast<char>(0xC0 | (codepoint >> 6)));
    trailing(0);
  } else if (codepoint < 0x10000) {
    text->push_back(static_cast<char>(0xE0 | (codepoint >> 12)));
    trailing(6);
    trailing(0);
  } else {
    text->push_back(static_cast<char>(0xF0 | (codepoint >> 18)));
    trailing(12);
    trailing(6);
    trailing(0);
  }
}

uint32_t UpperCase(uint32_t codepoint) {
  if (codepoint < 0x80) return codepoint >= 'a' && codepoint <= 'z' ? codepoint - 32 : codepoint;
  const locale_t locale = UnicodeLocale();
  return locale == nullptr ? codepoint : static_cast<uint32_t>(::towupper_l(codepoint, locale));
}

uint32_t LowerCase(uint32_t codepoint) {
  if (codepoint < 0x80) return codepoint >= 'A' && codepoint <= 'Z' ? codepoint + 32 : codepoint;
  const locale_t locale = UnicodeLocale();
  return locale == nullptr ? codepoint : static_cast<uint32_t>(::towlower_l(codepoint, locale));
}

bool IsSpace(uint32_t codepoint) {
  return (codepoint >= 0x09 && codepoint <= 0x0D) || (codepoint >= 0x1C && codepoint <= 0x20) ||
         codepoint == 0x85 || codepoint == 0xA0 || codepoint == 0x1680 ||
         (codepoint >= 0x2000 && codepoint <= 0x200A) || codepoint == 0x2028 ||
         codepoint == 0x2029 || codepoint == 0x202F || codepoint == 0x205F || codepoint == 0x3000;
}

bool IsAlpha(uint32_t codepoint) {
  if (codepoint < 0x80) return (codepoint | 0x20) >= 'a' && (codepoint | 0x20) <= 'z';
  const locale_t locale = UnicodeLocale();
  return locale != nullptr && ::iswalpha_l(codepoint, locale) != 0;
}

bool IsDigit(uint32_t codepoint) { return codepoint >= '0' && codepoint <= '9'; }

bool IsPrintable(uint32_t codepoint) {
  if (codepoint < 0x80) return codepoint >= 0x20 && codepoint < 0x7F;
  if (IsSpace(codepoint) || codepoint < 0xA0 || codepoint == 0xAD) return false;
  // Characters that only format the text around them.
  if ((codepoint >= 0x200B && codepoint <= 0x200F) || codepoint == 0xFEFF) return false;
  const locale_t locale = UnicodeLocale();
  return locale == nullptr || ::iswprint_l(codepoint, locale) != 0;
}

std::string Upper(std::string_view text) { return ChangeCharacters(text, UpperCase); }

std::string Lower(std::string_view text) { return ChangeCharacters(text, LowerCase); }

std::string Capitalize(std::string_view text) {
  bool first = true;
  return ChangeCharacters(text, [&](uint32_t codepoint) {
    const bool is_first = std::exchange(first, false);
    return is_first ? UpperCase(codepoint) : LowerCase(codepoint);
  });
}

std::string_view Strip(std::string_view text, Side side) {
  return StripWhere(text, side, [](std::string_view character) {
    return IsSpace(CharacterAt(character).codepoint);
  });
}

std::string_view Strip(std::string_view text, Side side, std::string_view characters) {
  const std::vector<size_t> offsets = CharacterOffsets(characters);
  std::vector<std::string_view> set;
  for (size_t i = 0; i + 1 < offsets.size(); ++i) {
    set.push_back(characters.substr(offsets[i], offsets[i + 1] - offsets[i]));
  }
  std::sort(set.begin(), set.end());
  return StripWhere(text, side, [&](std::string_view character) {
    return std::binary_search(set.begin(), set.end(), character);
  });
}

size_t FindText(std::string_view text, std::string_view part, size_t from) {
  if (from > text.size()) return std::string_view::npos;
  if (part.empty()) return from;
  const void* found = ::memmem(text.data() + from, text.size() - from, part.data(), part.size());
  return found == nullptr ? std::string_view::npos
                          : static_cast<size_t>(static_cast<const char*>(found) - text.data());
}

}  // namespace thermocline::jinja
