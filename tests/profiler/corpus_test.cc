#include "profiler/activations/corpus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/core/interrupt.h"
#include "tests/profiler/profiler_testing.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

using testing::HasSubstr;

class CorpusTest : public testing::Test {
 protected:
  ~CorpusTest() override { ClearInterrupt(); }

  Corpus Open(const std::string& text, CorpusOptions options, bool bos = true) {
    WriteWholeFile(path_, text);
    return Corpus(path_, bos ? with_bos_ : without_bos_, options);
  }

  // Returns the bytes of all windows, one string each; '^' stands for BOS.
  static std::vector<std::string> Windows(Corpus corpus) {
    std::vector<std::string> windows;
    for (int64_t w = 0; w < corpus.n_windows(); ++w) {
      std::string window;
      for (const int32_t id : corpus.NextWindow())
        window += id == 1 ? '^' : static_cast<char>(id - 3);
      windows.push_back(window);
    }
    return windows;
  }

  TempDir dir_;
  std::string path_ = dir_.file("text");
  ByteTokenizer with_bos_{true};
  ByteTokenizer without_bos_{false};
};

TEST_F(CorpusTest, CutsWindowsOfTheContextWithBosInFront) {
  Corpus corpus = Open("abcdefgh", {.context_tokens = 4});
  EXPECT_EQ(corpus.n_tokens(), 8);
  EXPECT_EQ(corpus.n_windows(), 3);
  EXPECT_EQ(corpus.TokensOfWindows(2), 8);
  EXPECT_EQ(corpus.TokensOfWindows(3), 11);
  EXPECT_THAT(Windows(std::move(corpus)), testing::ElementsAre("^abc", "^def", "^gh"));
}

TEST_F(CorpusTest, NoBosWhereTheModelWantsNone) {
  EXPECT_THAT(Windows(Open("abcdefgh", {.context_tokens = 4}, /*bos=*/false)),
              testing::ElementsAre("abcd", "efgh"));
}

TEST_F(CorpusTest, ChunksChangeNothing) {
  const std::string text = "one\ntwo three\n\nfour five six seven\neight";
  const auto whole = Windows(Open(text, {.context_tokens = 6}));
  for (uint64_t chunk = 1; chunk < text.size() + 2; ++chunk) {
    EXPECT_EQ(Windows(Open(text, {.context_tokens = 6, .chunk_bytes = chunk})), whole) << chunk;
  }
}

TEST_F(CorpusTest, TakesAtMostMaxTokens) {
  EXPECT_THAT(Windows(Open("abcdefgh", {.context_tokens = 4, .max_tokens = 5})),
              testing::ElementsAre("^abc", "^de"));
  EXPECT_THAT(Windows(Open("ab\ncd\nef", {.context_tokens = 4, .max_tokens = 4, .chunk_bytes = 3})),
              testing::ElementsAre("^ab\n", "^c"));
  EXPECT_EQ(Open("abc", {.context_tokens = 4, .max_tokens = 100}).n_tokens(), 3);
}

TEST_F(CorpusTest, CutsALineWithoutEndBetweenCharacters) {
  // The tokenizer sees whole characters: every chunk is valid UTF-8 on its own.
  class Checker : public ByteTokenizer {
   public:
    Checker() : ByteTokenizer(false) {}

   protected:
    std::vector<int32_t> EncodeText(std::string_view text, bool parse_special) const override {
      EXPECT_NE(static_cast<unsigned char>(text.front()) & 0xC0U, 0x80U);
      return ByteTokenizer::EncodeText(text, parse_special);
    }
  };
  std::string text;
  for (int i = 0; i < 20; ++i) text += "é€😀";
  WriteWholeFile(path_, text);
  for (uint64_t chunk = 4; chunk < 20; ++chunk) {
    const Checker checker;
    const Corpus corpus(path_, checker, {.context_tokens = 8, .chunk_bytes = chunk});
    EXPECT_EQ(corpus.n_tokens(), static_cast<int64_t>(text.size()));
  }
}

TEST_F(CorpusTest, AcceptsBytesThatAreNoText) {
  std::string bytes;
  for (int i = 0; i < 256; ++i) bytes += static_cast<char>(i);
  EXPECT_EQ(Open(bytes, {.context_tokens = 8, .chunk_bytes = 16}).n_tokens(), 256);
  EXPECT_EQ(Open(std::string(64, '\x80'), {.context_tokens = 8, .chunk_bytes = 7}).n_tokens(), 64);
}

TEST_F(CorpusTest, SaysWhatIsWrongWithAFile) {
  EXPECT_THAT(ErrorOf([&] { Open("", {.context_tokens = 4}); }), HasSubstr("empty"));
  EXPECT_THAT(ErrorOf([&] { Corpus(dir_.file("none"), with_bos_, {.context_tokens = 4}); }),
              HasSubstr("cannot open"));
  EXPECT_THAT(ErrorOf([&] { Corpus(dir_.path(), with_bos_, {.context_tokens = 4}); }),
              HasSubstr("not a regular file"));
  EXPECT_THAT(ErrorOf([&] { Open("abc", {.context_tokens = 1}); }), HasSubstr("found 1"));
}

TEST_F(CorpusTest, StopsWhenAsked) {
  RequestInterrupt();
  EXPECT_THROW(Open("abc", {.context_tokens = 4}), Interrupted);
}

}  // namespace
}  // namespace thermocline
