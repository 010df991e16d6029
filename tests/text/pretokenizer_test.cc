// Splits of texts as the tokenizers that the names stand for make them.
#include "runtime/text/pretokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/text/utf8.h"

namespace thermocline {
namespace {

using ::testing::ElementsAre;
using Words = std::vector<std::string>;

Words SplitBy(std::string_view name, std::string_view text) {
  const auto info = FindPretokenizer(name);
  EXPECT_TRUE(info.has_value()) << name;
  Words words;
  Pretokenizer(*info).Split(text, [&](std::string_view word) { words.emplace_back(word); });
  return words;
}

TEST(PretokenizerTest, Gpt2) {
  EXPECT_THAT(
      SplitBy("gpt-2", "Hello, it's 2023's  best!\n\n x"),
      ElementsAre("Hello", ",", " it", "'s", " 2023", "'s", " ", " best", "!", "\n\n", " x"));
  EXPECT_THAT(SplitBy("gpt-2", "a\nb"), ElementsAre("a", "\n", "b"));
  EXPECT_THAT(SplitBy("gpt-2", "IT'S"), ElementsAre("IT", "'", "S"));
  EXPECT_THAT(SplitBy("gpt-2", "tail  "), ElementsAre("tail", "  "));
  EXPECT_THAT(SplitBy("gpt-2", ""), ElementsAre());
}

TEST(PretokenizerTest, DigitsByThemselves) {
  EXPECT_THAT(SplitBy("smollm", "in 1984 ½"), ElementsAre("in", " ", "1", "9", "8", "4", " ", "½"));
  EXPECT_THAT(SplitBy("falcon", "12345 (x)"), ElementsAre("123", "45", " ", "(", "x", ")"));
  EXPECT_THAT(SplitBy("qwen2", " 42"), ElementsAre(" ", "4", "2"));
}

TEST(PretokenizerTest, Llama3) {
  EXPECT_THAT(SplitBy("llama-bpe", "Don'T pay 12345.67"),
              ElementsAre("Don", "'T", " pay", " ", "123", "45", ".", "67"));
  EXPECT_THAT(SplitBy("llama-bpe", "(word)\n\n  next line   end"),
              ElementsAre("(word", ")\n\n", " ", " next", " line", "  ", " end"));
  EXPECT_THAT(SplitBy("llama-bpe", "a \n \nb"), ElementsAre("a", " \n \n", "b"));
  EXPECT_THAT(SplitBy("llama-bpe", "你好，世界"), ElementsAre("你好", "，世界"));
  EXPECT_EQ(SplitBy("pixtral", "12345"), SplitBy("llama-bpe", "12345"));
}

TEST(PretokenizerTest, Gpt4oPartsUpperAndLowerCase) {
  EXPECT_THAT(SplitBy("gpt-4o", "camelCase HTMLParser It's 12345 a//\n"),
              ElementsAre("camel", "Case", " HTMLParser", " It's", " ", "123", "45", " a", "//\n"));
  EXPECT_THAT(SplitBy("tekken", "It's 123"), ElementsAre("It", "'s", " ", "1", "2", "3"));
}

TEST(PretokenizerTest, KimiPartsHanFromLetters) {
  EXPECT_THAT(SplitBy("kimi-k2", "abc你好def 々ア 1234"),
              ElementsAre("abc", "你好", "def", " ", "々", "ア", " ", "123", "4"));
}

TEST(PretokenizerTest, Deepseek) {
  EXPECT_THAT(SplitBy("deepseek-v3", "x=foo 12345你好カナ!\n"),
              ElementsAre("x", "=foo", " ", "123", "45", "你好カナ", "!\n"));
  EXPECT_THAT(SplitBy("deepseek-coder", "a b,\n12"), ElementsAre("a", " b", ",", "\n", "1", "2"));
  EXPECT_THAT(SplitBy("deepseek-llm", "Hi there.  "), ElementsAre("Hi", " there", ".", "  "));
}

TEST(PretokenizerTest, DigitsInThreesFromTheEnd) {
  EXPECT_THAT(SplitBy("tiny_aya", "1234567"), ElementsAre("1", "234", "567"));
  EXPECT_THAT(SplitBy("tiny_aya", "123456"), ElementsAre("123", "456"));
  EXPECT_THAT(SplitBy("tiny_aya", "1234x"), ElementsAre("123", "4", "x")) << "no word ends there";
  EXPECT_THAT(SplitBy("afmoe", "٠١٢٣"), ElementsAre("٠", "١٢٣")) << "characters, not bytes";
}

TEST(PretokenizerTest, ClausesAndSpelledWords) {
  EXPECT_THAT(SplitBy("bloom", "a-b c'd, e."), ElementsAre("a-b", " c'd", ",", " e", "."));
  EXPECT_THAT(SplitBy("viking", "a12"), ElementsAre("a", "1", "2"));
  EXPECT_THAT(SplitBy("exaone-moe", "a b cd, e"), ElementsAre("a b cd", ",", " e"));
}

TEST(PretokenizerTest, LinesAndWhatIsCutInThem) {
  EXPECT_THAT(SplitBy("gemma4", "a b\n\n c\n"), ElementsAre("a b", "\n\n", " c", "\n"));
  EXPECT_TRUE(FindPretokenizer("sarvam-moe")->plain_pieces);
  EXPECT_FALSE(FindPretokenizer("laguna")->plain_pieces);
  EXPECT_THAT(SplitBy("laguna", "It's 42!\n\nx"),
              ElementsAre("It", "'s", " ", "4", "2", "!", "\n\n", "x"));
  EXPECT_THAT(SplitBy("qwen2", "x!\n\ny"), ElementsAre("x", "!\n\n", "y"));
}

TEST(PretokenizerTest, KinOfOthers) {
  EXPECT_THAT(SplitBy("ufakzeka", "Ankara's 42"), ElementsAre("Ankara", "'s", " ", "4", "2"));
  EXPECT_THAT(SplitBy("ufakzeka", "'reyi"), ElementsAre("'reyi"));
  EXPECT_THAT(SplitBy("qwen2", "'reyi"), ElementsAre("'re", "yi"));
  EXPECT_THAT(SplitBy("minicpm5", "12345 it's"), ElementsAre("123", "45", " it", "'s"));
  EXPECT_THAT(SplitBy("spark2_5", "x 12!\n\n"), ElementsAre("x", " ", "1", "2", "!", "\n", "\n"));
  EXPECT_EQ(SplitBy("talkie", "camelCase"), SplitBy("gpt-4o", "camelCase"));
  EXPECT_EQ(SplitBy("hy_v4", "x=foo 1"), SplitBy("deepseek-v3", "x=foo 1"));
}

TEST(PretokenizerTest, SpacesAreUnicodes) {
  // U+180E has been no space since Unicode 6.3; U+0085 and U+3000 are.
  EXPECT_THAT(SplitBy("gpt-2", "a\u180Eb"), ElementsAre("a", "\u180E", "b"));
  EXPECT_THAT(SplitBy("gpt-2", "\u180E!"), ElementsAre("\u180E!"));
  EXPECT_THAT(SplitBy("gpt-2", "\u0085!"), ElementsAre("\u0085", "!"));
  EXPECT_THAT(SplitBy("gpt-2", "\u3000\u3000!"), ElementsAre("\u3000", "\u3000", "!"));
}

TEST(PretokenizerTest, InvalidBytesAreWordsOfTheirOwn) {
  EXPECT_THAT(SplitBy("gpt-2", "ab\xFF\xC3(\xE2\x82"),
              ElementsAre("ab", "\xFF", "\xC3", "(", "\xE2", "\x82"));
}

TEST(PretokenizerTest, NamesDifferAndUnknownOnesAreNotGuessed) {
  const auto names = PretokenizerNames();
  EXPECT_EQ(std::set(names.begin(), names.end()).size(), names.size());
  EXPECT_GT(names.size(), 70U);
  EXPECT_FALSE(FindPretokenizer("gpt-5").has_value());
  EXPECT_FALSE(FindPretokenizer("").has_value());
}

TEST(PretokenizerTest, WordsOfAnyTextAreTheText) {
  std::mt19937 random(11);
  const std::string_view parts[] = {"a",     "B",        "'s", " ",  "\n", "\r\n", "1",
                                    "23456", "你",       "é",  "\t", ".,", "/",    "가",
                                    "\xFF",  "\xE2\x82", "़",   "ǅ",  "ア", "💧"};
  for (const std::string_view name : PretokenizerNames()) {
    const Pretokenizer pretokenizer(*FindPretokenizer(name));
    for (int i = 0; i < 100; ++i) {
      std::string text;
      for (size_t n = random() % 30; n > 0; --n) text += parts[random() % std::size(parts)];
      std::string joined;
      pretokenizer.Split(text, [&](std::string_view word) {
        EXPECT_FALSE(word.empty());
        joined += word;
      });
      EXPECT_EQ(joined, text) << name;
    }
  }
}

// Time grows with a text, not with its square, whatever repeats in it: else this would not end.
TEST(PretokenizerTest, LongRunsAreNoTrap) {
  constexpr size_t kBytes = size_t{1} << 17;
  std::set<std::string> seen;
  for (const std::string_view name : PretokenizerNames()) {
    const auto info = FindPretokenizer(name);
    if (!seen.insert(info->steps.back().expression + info->steps.front().expression).second) {
      continue;
    }
    const Pretokenizer pretokenizer(*info);
    for (const std::string_view unit : {"a", "A", " ", "\n", "1", "!", "a b ", "你", " \n", "'"}) {
      std::string text;
      while (text.size() < kBytes) text += unit;
      text += 'x';
      size_t n_bytes = 0;
      pretokenizer.Split(text, [&](std::string_view word) { n_bytes += word.size(); });
      EXPECT_EQ(n_bytes, text.size()) << name;
    }
  }
}

}  // namespace
}  // namespace thermocline
