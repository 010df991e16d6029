#include "runtime/text/byte_level.h"

#include <array>

#include "runtime/text/utf8.h"

namespace thermocline {
namespace {

constexpr uint32_t kFirstStandInChar = 0x100;
constexpr size_t kByteLevelChars = 0x144;  // one more than the last character's code point

constexpr bool StandsForItself(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xFF && byte != 0xAD);
}

struct ByteLevelTable {
  std::array<std::array<char, 2>, 256> utf8{};
  std::array<uint8_t, 256> n_bytes{};
  std::array<int16_t, kByteLevelChars> byte_of{};  // -1: the code point stands for no byte

  constexpr ByteLevelTable() {
    byte_of.fill(-1);
    uint32_t next = kFirstStandInChar;
    for (int byte = 0; byte < 256; ++byte) {
      const uint32_t code = StandsForItself(byte) ? static_cast<uint32_t>(byte) : next++;
      byte_of[code] = static_cast<int16_t>(byte);
      n_bytes[byte] = code < 0x80 ? 1 : 2;
      utf8[byte] = code < 0x80 ? std::array<char, 2>{static_cast<char>(code), 0}
                               : std::array<char, 2>{static_cast<char>(0xC0 | code >> 6),
                                                     static_cast<char>(0x80 | (code & 0x3F))};
    }
  }
};

constexpr ByteLevelTable kByteLevel;

}  // namespace

std::string_view ByteLevelChar(uint8_t byte) {
  return {kByteLevel.utf8[byte].data(), kByteLevel.n_bytes[byte]};
}

std::string EncodeByteLevel(std::string_view bytes) {
  std::string spelling;
  spelling.reserve(bytes.size());
  for (const char byte : bytes) spelling += ByteLevelChar(static_cast<uint8_t>(byte));
  return spelling;
}

std::optional<std::string> DecodeByteLevel(std::string_view spelling) {
  std::string bytes;
  while (!spelling.empty()) {
    const Utf8Char first = FirstUtf8Char(spelling);
    if (first.status != Utf8Status::kValid || first.codepoint >= kByteLevelChars) return {};
    const int byte = kByteLevel.byte_of[first.codepoint];
    if (byte < 0) return {};
    bytes += static_cast<char>(byte);
    spelling.remove_prefix(first.n_bytes);
  }
  return bytes;
}

}  // namespace thermocline
