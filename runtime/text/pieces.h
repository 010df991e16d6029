// What the tokens of SentencePiece-like vocabularies stand for: text in which U+2581 ("▁") is a
// space, single bytes named "<0x41>", or nothing.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "runtime/text/vocabulary.h"

namespace thermocline {

inline constexpr std::string_view kSpaceSign = "\xE2\x96\x81";
inline constexpr uint32_t kSpaceSignCodepoint = 0x2581;

// Returns the name that text is compared with for token `id`, empty when no text may turn into it.
std::string MatchablePiece(const Vocabulary& vocab, int32_t id);

// Returns the bytes that token `id` stands for; control and unknown tokens stand for none.
std::string PieceBytes(const Vocabulary& vocab, int32_t id);

// Returns the text with every ' ' as U+2581, and the reverse.
std::string EscapeSpaces(std::string_view text);
std::string UnescapeSpaces(std::string_view piece);

}  // namespace thermocline
