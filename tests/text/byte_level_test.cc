#include "runtime/text/byte_level.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "runtime/text/utf8.h"

namespace thermocline {
namespace {

TEST(ByteLevelTest, EveryByteIsOneVisibleCharacterOfItsOwn) {
  std::set<std::string> seen;
  for (int byte = 0; byte < 256; ++byte) {
    const std::string spelling(ByteLevelChar(static_cast<uint8_t>(byte)));
    const Utf8Char character = FirstUtf8Char(spelling);
    EXPECT_EQ(character.status, Utf8Status::kValid);
    EXPECT_EQ(character.n_bytes, spelling.size());
    EXPECT_GT(character.codepoint, 0x20U);
    EXPECT_TRUE(seen.insert(spelling).second) << byte;
    EXPECT_EQ(DecodeByteLevel(spelling), std::string(1, static_cast<char>(byte)));
  }
}

TEST(ByteLevelTest, SpellsAsGpt2Does) {
  EXPECT_EQ(EncodeByteLevel(" a\n\t~"), "ĠaĊĉ~");
  EXPECT_EQ(EncodeByteLevel("é"), "Ã©");
  EXPECT_EQ(EncodeByteLevel(std::string("\0\x7F\x80\xA0\xAD\xFF", 6)), "ĀġĢłŃÿ");
  EXPECT_EQ(EncodeByteLevel(""), "");
}

TEST(ByteLevelTest, OtherCharactersAreNoSpelling) {
  for (const char* text : {" ", "a b", "\n", "▁a", "\u00AD", "\u0144", "한", "\xC4", "a\xFF"}) {
    EXPECT_FALSE(DecodeByteLevel(text).has_value()) << text;
  }
  EXPECT_EQ(DecodeByteLevel(""), "");
}

}  // namespace
}  // namespace thermocline
