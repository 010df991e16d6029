// The spelling of byte-level BPE vocabularies (GPT-2, Radford et al. 2019): every byte is written
// as one printable character, so that a token's name is readable text whatever its bytes are. The
// visible characters of Latin-1 stand for themselves; the other 68 bytes, in order, are U+0100 to
// U+0143. A space is "Ġ" (U+0120), a line end "Ċ" (U+010A).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace thermocline {

// Returns the character that stands for a byte: one or two bytes of UTF-8.
std::string_view ByteLevelChar(uint8_t byte);

// Returns any bytes as a vocabulary spells them.
std::string EncodeByteLevel(std::string_view bytes);

// Returns the bytes that a spelling stands for, or nothing where one of its characters stands for
// no byte or is not UTF-8.
std::optional<std::string> DecodeByteLevel(std::string_view spelling);

}  // namespace thermocline
