#include "runtime/text/bpe_tokenizer.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <thread>
#include <vector>

#include "runtime/core/interrupt.h"
#include "runtime/text/word_merger.h"
#include "tests/text/test_vocabulary.h"

namespace thermocline {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(BpeTokenizerTest, TheLowestRankIsJoinedFirstAndTheLeftmostOfEqualOnes) {
  const auto tokenizer = TokenizerFromKeys(BpeKeys({"b c", "a b", "a a", "aa a", "Ġ a"}));
  EXPECT_THAT(tokenizer->Encode("abc"), ElementsAre('a', MergedId(0)));
  EXPECT_THAT(tokenizer->Encode("abd"), ElementsAre(MergedId(1), 'd'));
  EXPECT_THAT(tokenizer->Encode("aaa"), ElementsAre(MergedId(3)));
  EXPECT_THAT(tokenizer->Encode("aaaa"), ElementsAre(MergedId(2), MergedId(2)));
  EXPECT_THAT(tokenizer->Encode("aaaaa"), ElementsAre(MergedId(2), MergedId(3)));
  EXPECT_THAT(tokenizer->Encode("b a"), ElementsAre('b', MergedId(4)));
  EXPECT_THAT(tokenizer->Encode(""), IsEmpty());
}

TEST(BpeTokenizerTest, AWholeWordIsTakenWhereThePretokenizerSaysSo) {
  Keys keys = BpeKeys({"b c", "a b"});
  const int32_t word = AddToken(&keys, "Ġabc", TokenType::kNormal);
  EXPECT_THAT(TokenizerFromKeys(keys)->Encode(" abc"), ElementsAre(' ', 'a', MergedId(0)));
  keys["tokenizer.ggml.pre"] = GgufValue::string("llama-bpe");
  const auto tokenizer = TokenizerFromKeys(keys);
  EXPECT_THAT(tokenizer->Encode(" abc"), ElementsAre(word));
  EXPECT_THAT(tokenizer->Encode(" abcd"), ElementsAre(' ', 'a', MergedId(0), 'd'));
  EXPECT_EQ(tokenizer->TokenBytes(word), " abc");
}

TEST(BpeTokenizerTest, WordsComeOutOfTheCacheAsTheyWentIn) {
  const auto tokenizer = TokenizerFromKeys(BpeKeys({"h e", "l l", "he ll"}));
  for (const std::string text : {"hello", "a much longer word: internationalisations", "\xFF"}) {
    const std::vector<int32_t> first = tokenizer->Encode(text);
    EXPECT_EQ(tokenizer->Encode(text), first);
    EXPECT_EQ(tokenizer->Decode(first), text);
  }
}

TEST(BpeTokenizerTest, ControlTokensAreTextUnlessTheyAreParsed) {
  Keys keys = BpeKeys({"| >"});
  const int32_t end = MergedId(1);
  const int32_t longer = AddToken(&keys, "<|end|>>", TokenType::kControl);
  AddToken(&keys, "<unused>", TokenType::kUnused);
  const auto tokenizer = TokenizerFromKeys(keys);
  const std::string text = "a<|end|>b<|end|>><unused>";
  const std::vector<int32_t> as_text = tokenizer->Encode(text);
  EXPECT_THAT(as_text, Each(testing::Lt(end)));
  EXPECT_EQ(tokenizer->Decode(as_text), text);
  const std::vector<int32_t> parsed = tokenizer->Encode("a<|end|>b<|end|>>", true);
  EXPECT_THAT(parsed, ElementsAre('a', end, 'b', longer));
  EXPECT_EQ(tokenizer->Decode(parsed), "ab");
  EXPECT_EQ(tokenizer->TokenBytes(end), "");
  EXPECT_EQ(tokenizer->TokenName(end), "<|end|>");
  EXPECT_EQ(tokenizer->TokenName('a'), "a");
  EXPECT_THAT(tokenizer->Encode("<|end|>", true), ElementsAre(end));
  EXPECT_THAT(tokenizer->Encode("<|end|", true), Each(testing::Lt(end)));
}

TEST(BpeTokenizerTest, UserDefinedTokensAreCutOutFirstTheLongestOfThem) {
  Keys keys = BpeKeys({"Ġ Ġ", "x y"});
  const int32_t two = AddToken(&keys, "  ", TokenType::kUserDefined);
  const int32_t four = AddToken(&keys, "    ", TokenType::kUserDefined);
  const int32_t tag = AddToken(&keys, "y z", TokenType::kUserDefined);
  const auto tokenizer = TokenizerFromKeys(keys);
  EXPECT_THAT(tokenizer->Encode("       "), ElementsAre(four, two, ' '));
  EXPECT_THAT(tokenizer->Encode("xy z"), ElementsAre('x', tag));
  EXPECT_THAT(tokenizer->Encode("xy"), ElementsAre(MergedId(1)));
  EXPECT_EQ(tokenizer->TokenBytes(four), "    ");
  // A name is text as it is: "Ġx" is not what " x" is spelled as.
  keys["tokenizer.ggml.merges"] = StringArray({"Ġ x"});
  const int32_t spelled = AddToken(&keys, "Ġx", TokenType::kUserDefined);
  EXPECT_THAT(TokenizerFromKeys(keys)->Encode(" xĠx"), ElementsAre(' ', 'x', spelled));
  EXPECT_EQ(tokenizer->Decode(tokenizer->Encode("  xy z")), "  xy z");
}

TEST(BpeTokenizerTest, AnyBytesComeBack) {
  std::mt19937 random(5);
  Keys keys = BpeKeys({"Ã ©", "e e", "Ġ e", "â Ĥ", "âĤ ¬", "ÿ ÿ"});
  AddToken(&keys, "<\xFF>", TokenType::kUserDefined);
  for (const char* pre : {"gpt-2", "llama-bpe", "deepseek-v3", "gpt-4o", "viking"}) {
    keys["tokenizer.ggml.pre"] = GgufValue::string(pre);
    const auto tokenizer = TokenizerFromKeys(keys);
    for (int i = 0; i < 300; ++i) {
      std::string text;
      for (size_t n = random() % 40; n > 0; --n) {
        constexpr std::string_view kParts[] = {"é", "€", " e", "ee", "\n", "<\xFF>", "7"};
        const size_t part = random() % (2 * std::size(kParts));
        text += part < std::size(kParts) ? std::string(kParts[part])
                                         : std::string(1, static_cast<char>(random()));
      }
      EXPECT_EQ(tokenizer->Decode(tokenizer->Encode(text)), text);
    }
  }
}

TEST(BpeTokenizerTest, AMegabyteOfOneLetterIsEncoded) {
  const auto tokenizer = TokenizerFromKeys(BpeKeys({"a a", "aa aa", "aaaa aaaa"}));
  const std::string text(1 << 20, 'a');
  const std::vector<int32_t> ids = tokenizer->Encode(text);
  EXPECT_EQ(ids.size(), text.size() / 8);
  EXPECT_THAT(ids, Each(MergedId(2)));
  // Nothing can be joined, and everything is one word.
  EXPECT_EQ(tokenizer->Encode(std::string(1 << 20, 'b')).size(), size_t{1} << 20);
}

// <bos> 0, then the 256 bytes, then pieces.
Keys PlainKeys(const std::vector<std::string>& pieces, const std::vector<std::string>& merges) {
  Vocabulary vocab;
  AddToken(&vocab, "<bos>", 0, TokenType::kControl);
  for (int byte = 0; byte < 256; ++byte) {
    AddToken(&vocab, fmt::format("<0x{:02X}>", byte), 0, TokenType::kByte);
  }
  for (const std::string& piece : pieces) AddToken(&vocab, piece, 0);
  Keys keys = KeysOf(vocab);
  keys["tokenizer.ggml.model"] = GgufValue::string("gemma4");
  keys["tokenizer.ggml.merges"] = StringArray(merges);
  keys["tokenizer.ggml.bos_token_id"] = GgufValue::u32(0);
  return keys;
}

TEST(BpeTokenizerTest, PlainPiecesAreJoinedAsTextAndFallBackToBytes) {
  enum : int32_t { kSpace = 257, kA, kB, kSpaceA, kLineEnds, kOverSpace };
  Keys keys = PlainKeys({"▁", "a", "b", "▁a", "\n\n", "b▁a"}, {"▁ a", "b ▁a"});
  const int32_t mark = AddToken(&keys, "[x]", TokenType::kUserDefined);
  keys.erase("tokenizer.ggml.scores");  // merges have ranks
  keys["tokenizer.ggml.add_bos_token"] = GgufValue::boolean(false);
  keys["tokenizer.ggml.pre"] = GgufValue::string("qwen2");  // says nothing in such a file
  const auto tokenizer = TokenizerFromKeys(keys);
  EXPECT_THAT(tokenizer->Encode("a a"), ElementsAre(kA, kSpaceA));
  EXPECT_THAT(tokenizer->Encode("b a"), ElementsAre(kOverSpace)) << "a piece lies across";
  EXPECT_THAT(tokenizer->Encode("a\n\nb\n"), ElementsAre(kA, kLineEnds, kB, 1 + '\n'));
  EXPECT_THAT(tokenizer->Encode("é\xFF"), ElementsAre(1 + 0xC3, 1 + 0xA9, 1 + 0xFF));
  EXPECT_THAT(tokenizer->Encode("a[x] a"), ElementsAre(kA, mark, kSpaceA));
  EXPECT_THAT(tokenizer->Encode("<bos>", true), ElementsAre(0));
  EXPECT_EQ(tokenizer->Encode("<0x41>").size(), 6U) << "text that looks like a byte is text";
  EXPECT_THAT(tokenizer->EncodePrompt("a"), ElementsAre(0, kA)) << "BOS, whatever the file says";
  EXPECT_FALSE(tokenizer->adds_space_prefix());
  for (const std::string text : {" b a\n\n[x] é\xFF <0x41>", "  a  ", "\n\n\n"}) {
    EXPECT_EQ(tokenizer->Decode(tokenizer->Encode(text)), text);
  }
  keys.erase("tokenizer.ggml.merges");
  EXPECT_THAT(ErrorOf(keys), testing::HasSubstr("tokenizer.ggml.merges is missing"));
}

// The reference: the definition, word by word.
std::vector<int32_t> JoinBySearch(const MergeTable& merges, std::vector<int32_t> ids) {
  while (true) {
    size_t best = 0;
    MergeTable::Entry entry;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      const MergeTable::Entry pair = merges.Find(ids[i], ids[i + 1]);
      if (pair.rank < entry.rank) best = i, entry = pair;
    }
    if (entry.rank == MergeTable::kNoRank) return ids;
    ids[best] = entry.result;
    ids.erase(ids.begin() + static_cast<ptrdiff_t>(best) + 1);
  }
}

TEST(WordMergerTest, HeapAndScanAreTheDefinition) {
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    std::vector<BpeMerge> merges;  // any pair may become any token, also in circles
    for (int i = 0; i < 12; ++i) {
      merges.push_back({static_cast<int32_t>(random() % 5), static_cast<int32_t>(random() % 5),
                        static_cast<int32_t>(random() % 5)});
    }
    const MergeTable table(merges);
    WordMerger by_heap(table, /*max_scanned=*/0);
    WordMerger by_scan(table, /*max_scanned=*/1000);
    std::vector<int32_t> ids;
    for (size_t n = random() % 80; n > 0; --n)
      ids.push_back(static_cast<int32_t>(random() % 6) - 1);
    const std::vector<int32_t> expected = JoinBySearch(table, ids);
    std::vector<int32_t> joined = ids;
    by_heap.Merge(&joined);
    EXPECT_EQ(joined, expected);
    joined = ids;
    by_scan.Merge(&joined);
    EXPECT_EQ(joined, expected);
  }
}

TEST(WordMergerTest, OfTwoMergesOfOnePairTheFirstCounts) {
  const MergeTable table({{1, 2, 3}, {1, 2, 4}});
  EXPECT_EQ(table.Find(1, 2).rank, 0);
  EXPECT_EQ(table.Find(1, 2).result, 3);
  EXPECT_EQ(table.Find(2, 1).rank, MergeTable::kNoRank);
  EXPECT_EQ(table.Find(-1, -1).rank, MergeTable::kNoRank);
}

TEST(BpeTokenizerTest, ThreadsEncodeAtTheSameTime) {
  const auto tokenizer = TokenizerFromKeys(BpeKeys({"a b", "ab c", "Ġ a"}));
  std::string text;
  for (int i = 0; i < 2000; ++i) text += " abc a" + std::to_string(i);
  const std::vector<int32_t> expected = tokenizer->Encode(text);
  std::vector<std::vector<int32_t>> ids(4);
  std::vector<std::thread> threads;
  for (auto& own : ids) {
    threads.emplace_back([&] {
      for (int i = 0; i < 5; ++i) own = tokenizer->Encode(text);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(ids, Each(expected));
}

TEST(BpeTokenizerTest, ALongTextCanBeInterrupted) {
  const auto tokenizer = TokenizerFromKeys(BpeKeys({"a a"}));
  RequestInterrupt();
  EXPECT_THROW(tokenizer->Encode(std::string(1 << 18, 'a')), Interrupted) << "within a word";
  std::string words;
  for (int i = 0; i < (1 << 16); ++i) words += " a";
  EXPECT_THROW(tokenizer->Encode(words), Interrupted);
  EXPECT_NO_THROW(tokenizer->Encode("a a"));
  ClearInterrupt();
}

}  // namespace
}  // namespace thermocline
