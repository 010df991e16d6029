#include "runtime/text/utf8.h"

#include <gtest/gtest.h>

#include <string>

namespace thermocline {
namespace {

std::string EncodeCodepoint(uint32_t c) {
  std::string out;
  const auto add = [&out](uint32_t byte) { out += static_cast<char>(byte); };
  if (c < 0x80) {
    add(c);
  } else if (c < 0x800) {
    add(0xC0 | c >> 6);
    add(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    add(0xE0 | c >> 12);
    add(0x80 | (c >> 6 & 0x3F));
    add(0x80 | (c & 0x3F));
  } else {
    add(0xF0 | c >> 18);
    add(0x80 | (c >> 12 & 0x3F));
    add(0x80 | (c >> 6 & 0x3F));
    add(0x80 | (c & 0x3F));
  }
  return out;
}

TEST(Utf8Test, ReadsEveryCodepointAndItsEveryBeginning) {
  for (uint32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c == 0xD800) c = 0xE000;  // surrogates are no characters
    const std::string text = EncodeCodepoint(c);
    const Utf8Char first = FirstUtf8Char(text + "x");
    ASSERT_EQ(first.status, Utf8Status::kValid) << c;
    ASSERT_EQ(first.codepoint, c);
    ASSERT_EQ(first.n_bytes, text.size());
    for (size_t n = 1; n < text.size(); ++n) {
      const Utf8Char cut = FirstUtf8Char(std::string_view(text).substr(0, n));
      ASSERT_EQ(cut.status, Utf8Status::kIncomplete) << c;
      ASSERT_EQ(cut.n_bytes, n);
    }
  }
}

TEST(Utf8Test, RefusesSurrogatesOverlongFormsAndLargeNumbers) {
  for (const char* text :
       {"\xC0\xAF", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xED\xBF\xBF", "\xF0\x8F\xBF\xBF",
        "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "\x80", "\xBF"}) {
    EXPECT_EQ(FirstUtf8Char(text).status, Utf8Status::kInvalid);
    EXPECT_EQ(FirstUtf8Char(text).n_bytes, 1U);
    EXPECT_FALSE(IsValidUtf8(text));
  }
}

// These are the examples of the Unicode standard, chapter 3.9, tables 3-8 to 3-11.
TEST(Utf8Test, ReplacesMaximalSubpartsAsTheStandardRecommends) {
  const std::string r(kReplacementCharacter);
  EXPECT_EQ(ReplaceInvalidUtf8("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"),
            r + r + r + r + r + r + r + r + "A");
  EXPECT_EQ(ReplaceInvalidUtf8("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"),
            r + r + r + r + r + r + r + r + "A");
  EXPECT_EQ(ReplaceInvalidUtf8("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"),
            r + r + r + r + r + "A" + r + r + "B");
  EXPECT_EQ(ReplaceInvalidUtf8("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), r + r + r + r + "A");
}

TEST(Utf8Test, KeepsWhatIsValid) {
  const std::string text = std::string("a\0é🦙", 8) + "\xEF\xBF\xBD";
  EXPECT_TRUE(IsValidUtf8(text));
  EXPECT_EQ(ReplaceInvalidUtf8(text), text);
  EXPECT_EQ(ReplaceInvalidUtf8(""), "");
}

}  // namespace
}  // namespace thermocline
