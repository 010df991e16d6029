// Unicode's normalization forms (UAX #15), which some tokenizers put a text into before they cut
// it: letters and their marks joined (NFC), and characters that are only other ways to write others
// replaced (NFKC); NFD and NFKD leave them apart. By the tables of utf8proc.
//
// Bytes that are no UTF-8 stay as they are, and nothing is joined across them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace thermocline {

enum class UnicodeForm : uint8_t { kNone, kNfc, kNfd, kNfkc, kNfkd };

// "NFC", ...; "none".
std::string_view UnicodeFormName(UnicodeForm form);
std::optional<UnicodeForm> FindUnicodeForm(std::string_view name);

// Returns the text in the form: the text itself where it is in it, else *buffer, which is written.
// ASCII is looked at sixteen bytes at a time and other text that is in the form already character
// by character; time grows as the text does, whatever marks follow each other in it.
std::string_view ToUnicodeForm(std::string_view text, UnicodeForm form, std::string* buffer);

}  // namespace thermocline
