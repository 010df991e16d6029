// Characters as Python's str knows them. Positions and lengths count code points; bytes that are no
// UTF-8 count as a character each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace thermocline::jinja {

size_t CountCharacters(std::string_view text);
// Returns where each character begins, and the text's length at the end.
std::vector<size_t> CharacterOffsets(std::string_view text);

void AppendUtf8(uint32_t codepoint, std::string* text);

// Case is that of single characters: U+00DF stays what it is.
uint32_t UpperCase(uint32_t codepoint);
uint32_t LowerCase(uint32_t codepoint);
bool IsSpace(uint32_t codepoint);
bool IsAlpha(uint32_t codepoint);
bool IsDigit(uint32_t codepoint);
// Whether repr() shows the character as it is.
bool IsPrintable(uint32_t codepoint);

std::string Upper(std::string_view text);
std::string Lower(std::string_view text);
// Makes the first character upper case and the others lower case.
std::string Capitalize(std::string_view text);

enum class Side { kBoth, kLeft, kRight };
// Without characters whitespace at that side; with `characters` any of them.
std::string_view Strip(std::string_view text, Side side);
std::string_view Strip(std::string_view text, Side side, std::string_view characters);

// Returns where `part` first is in `text` from `from` on, or npos. It takes linear time whatever
// the texts are.
size_t FindText(std::string_view text, std::string_view part, size_t from = 0);

}  // namespace thermocline::jinja
