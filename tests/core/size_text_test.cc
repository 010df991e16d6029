#include "runtime/core/size_text.h"

#include <gtest/gtest.h>

namespace thermocline {
namespace {

TEST(SizeText, Parses) {
  EXPECT_EQ(ParseSize("0"), 0U);
  EXPECT_EQ(ParseSize("512"), 512U);
  EXPECT_EQ(ParseSize("512B"), 512U);
  EXPECT_EQ(ParseSize("4k"), 4096U);
  EXPECT_EQ(ParseSize("512M"), 512U << 20);
  EXPECT_EQ(ParseSize("8G"), 8ULL << 30);
  EXPECT_EQ(ParseSize("8GB"), 8ULL << 30);
  EXPECT_EQ(ParseSize("8GiB"), 8ULL << 30);
  EXPECT_EQ(ParseSize("8gib"), 8ULL << 30);
  EXPECT_EQ(ParseSize("1.5G"), 3ULL << 29);
  EXPECT_EQ(ParseSize("0.25K"), 256U);
  EXPECT_EQ(ParseSize("2T"), 2ULL << 40);
}

TEST(SizeText, IsExactForWholeNumbers) {
  EXPECT_EQ(ParseSize("9007199254740993"), 9007199254740993ULL);  // 2^53 + 1
  EXPECT_EQ(ParseSize("9223372036854775807"), 9223372036854775807ULL);
  EXPECT_EQ(ParseSize("8388607T"), 8388607ULL << 40);
}

TEST(SizeText, Refuses) {
  for (const char* text : {"",
                           "G",
                           "-1",
                           "-0",
                           "+1",
                           "1e3",
                           "1e3G",
                           "nan",
                           "inf",
                           "0x10",
                           " 8G",
                           "8G ",
                           "8 G",
                           "8P",
                           "8Gb/s",
                           "8i",
                           "8iB",
                           "8BB",
                           "8BiB",
                           "1..5G",
                           "1.5.5G",
                           "1.G",
                           "1.",
                           ".5G",
                           "1.e1G",
                           "1.5e1G",
                           "eight",
                           "8,5G",
                           "1.-5G",
                           "1.+5G",
                           "1.inf",
                           "1.nanG",
                           "--8",
                           "8KK",
                           "8\xc2\xa0G",
                           "8\nG",
                           "8388608T",
                           "9223372036854775808",
                           "18446744073709551616",
                           "99999999999999999999G"}) {
    EXPECT_EQ(ParseSize(text), std::nullopt) << "'" << text << "'";
  }
  EXPECT_EQ(ParseSize(std::string_view("8\0G", 3)), std::nullopt);
}

TEST(SizeText, Formats) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(1023), "1023 B");
  EXPECT_EQ(FormatBytes(1024), "1.00 KiB");
  EXPECT_EQ(FormatBytes(1536), "1.50 KiB");
  EXPECT_EQ(FormatBytes(20480), "20.0 KiB");
  EXPECT_EQ(FormatBytes((10 << 10) - 1), "10.0 KiB");
  EXPECT_EQ(FormatBytes((1 << 20) - 1), "1.00 MiB");
  EXPECT_EQ(FormatBytes(8535000000), "7.95 GiB");
  EXPECT_EQ(FormatBytes(3ULL << 40), "3.00 TiB");
  EXPECT_EQ(FormatBytes(UINT64_MAX), "16777216.0 TiB");
}

TEST(SizeText, WhatIsFormattedCanBeParsed) {
  for (const uint64_t n_bytes : {0ULL, 1023ULL, 1ULL << 20, 3ULL << 29, 5ULL << 40}) {
    std::string text = FormatBytes(n_bytes);
    text.erase(text.find(' '), 1);
    EXPECT_EQ(ParseSize(text), n_bytes) << text;
  }
}

}  // namespace
}  // namespace thermocline
