// Compiled normalisers as files give them, whole and broken.
#include "runtime/text/char_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

using ::testing::HasSubstr;

// A trie of one sequence, "ab", written by hand: from each node a byte leads to the unit at
// (node's offset xor byte).
std::vector<uint32_t> UnitsOfAb(uint32_t value) {
  constexpr uint32_t kEndBit = 1U << 8;
  constexpr uint32_t kValueBit = 1U << 31;
  std::vector<uint32_t> units(512);
  units[0] = 256U << 10;                // the root: its children lie at 256 xor byte
  units[256 ^ 'a'] = 256U << 10 | 'a';  // 'a' leads to 353; its children lie at 353 xor 256
  constexpr uint32_t kBase = 'a';       // 353 xor 256
  units[kBase ^ 'b'] = 64U << 10 | kEndBit | 'b';
  units[(kBase ^ 'b') ^ 64] = kValueBit | value;
  return units;
}

std::string Blob(const std::vector<uint32_t>& units, const std::string& replacements) {
  const auto n_bytes = static_cast<uint32_t>(units.size() * sizeof(uint32_t));
  std::string blob(sizeof(n_bytes) + n_bytes, '\0');
  std::memcpy(blob.data(), &n_bytes, sizeof(n_bytes));
  if (!units.empty()) std::memcpy(blob.data() + sizeof(n_bytes), units.data(), n_bytes);
  return blob + replacements;
}

std::string MessageOf(const std::string& blob) {
  try {
    const CharMap map("t.gguf", blob);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(CharMapTest, FindsTheLongestSequence) {
  const CharMap map("t.gguf", Blob(UnitsOfAb(2), std::string("x\0yz\0", 5)));
  EXPECT_EQ(map.Find("abc").n_bytes, 2U);
  EXPECT_EQ(map.Find("abc").replacement, "yz");
  for (const char* text : {"", "a", "b", "ac", "cab", "\xFF\xFF"}) {
    EXPECT_EQ(map.Find(text).n_bytes, 0U) << text;
  }
  EXPECT_EQ(CharMap().Find("ab").n_bytes, 0U);
}

TEST(CharMapTest, RefusesWhatIsNoCharMap) {
  const std::string good = Blob(UnitsOfAb(0), std::string("x\0", 2));
  EXPECT_EQ(MessageOf(good), "no error");
  EXPECT_THAT(MessageOf(""), HasSubstr("expected at least 4 bytes, found 0"));
  EXPECT_THAT(MessageOf("abc"), HasSubstr("expected at least 4 bytes, found 3"));
  for (const size_t size : {size_t{4}, size_t{5}, good.size() / 2, good.size() - 2}) {
    EXPECT_THAT(MessageOf(good.substr(0, size)), HasSubstr("an array of 2048 bytes")) << size;
  }
  EXPECT_THAT(MessageOf(good.substr(0, good.size() - 1)), HasSubstr("a NUL at the end"));
  std::string odd = good;
  odd[0] = 3;
  EXPECT_THAT(MessageOf(odd), HasSubstr("an array of 2051 bytes"));
  EXPECT_THAT(MessageOf(Blob({}, "x")), HasSubstr("an array of 0 bytes"));
  EXPECT_THAT(MessageOf(Blob(UnitsOfAb(2), std::string("x\0", 2))), HasSubstr("beyond its end"));
  EXPECT_THAT(MessageOf(Blob(UnitsOfAb(0), std::string(257, 'x') + '\0')),
              HasSubstr("replacements of at most 256 bytes"));
}

TEST(CharMapTest, AnyBytesAreRefusedOrFindSomethingInside) {
  std::mt19937 random(11);
  const std::string good = Blob(UnitsOfAb(0), std::string("x\0yz\0", 5));
  for (int round = 0; round < 3000; ++round) {
    std::string blob = good;
    for (size_t n = 1 + random() % 8; n > 0; --n) {
      blob[4 + random() % (blob.size() - 4)] = static_cast<char>(random());
    }
    try {
      const CharMap map("t.gguf", blob);
      for (const char* text : {"abababab", "aaaaaaaaaaaa", "b", "\xFF\xFE\x01"}) {
        const CharMap::Match match = map.Find(text);
        EXPECT_LE(match.n_bytes, std::strlen(text));
        EXPECT_LE(match.replacement.size(), CharMap::kMaxReplacementBytes);
      }
    } catch (const Error&) {
      continue;
    }
  }
}

}  // namespace
}  // namespace thermocline
