#include "runtime/text/unigram_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "runtime/core/interrupt.h"
#include "tests/text/test_vocabulary.h"

namespace thermocline {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// <pad> 0, </s> 1, <unk> 2, then pieces with their scores.
Vocabulary SmallUnigram() {
  Vocabulary vocab;
  AddToken(&vocab, "<pad>", 0, TokenType::kControl);
  AddToken(&vocab, "</s>", 0, TokenType::kControl);
  AddToken(&vocab, "<unk>", 0, TokenType::kUnknown);
  const std::pair<const char*, float> pieces[] = {{"▁", -2},   {"a", -3}, {"b", -3},   {"ab", -5},
                                                  {"abc", -4}, {"c", -4}, {"▁ab", -6}, {"é", -7}};
  for (const auto& [name, score] : pieces) AddToken(&vocab, name, score);
  return vocab;
}
enum : int32_t { kSpace = 3, kA, kB, kAb, kAbc, kC, kSpaceAb, kEAcute };

Keys UnigramKeys(const Vocabulary& vocab) {
  Keys keys = KeysOf(vocab);
  keys["tokenizer.ggml.model"] = GgufValue::string("t5");
  return keys;
}

TEST(UnigramTokenizerTest, TakesThePiecesWithTheLargestSum) {
  const auto tokenizer = TokenizerFromKeys(UnigramKeys(SmallUnigram()));
  EXPECT_THAT(tokenizer->Encode("ab"), ElementsAre(kSpaceAb));       // -6 beats -2 - 5
  EXPECT_THAT(tokenizer->Encode("abc"), ElementsAre(kSpace, kAbc));  // -6 beats -6 - 4
  EXPECT_THAT(tokenizer->Encode("b ab"), ElementsAre(kSpace, kB, kSpaceAb));
  EXPECT_THAT(tokenizer->Encode(""), IsEmpty());
  EXPECT_EQ(tokenizer->Decode(tokenizer->Encode("b abc é")), "b abc é");
}

TEST(UnigramTokenizerTest, OfEqualSumsTheOneWithTheLongerLastPieceIsTaken) {
  Vocabulary vocab = SmallUnigram();
  vocab.scores[kAb] = -6;  // as "a" and "b" together
  const auto tokenizer = TokenizerFromKeys(UnigramKeys(vocab));
  EXPECT_THAT(tokenizer->Encode("bab"), ElementsAre(kSpace, kB, kAb));
}

TEST(UnigramTokenizerTest, UnknownCharactersInARowAreOneToken) {
  const auto tokenizer = TokenizerFromKeys(UnigramKeys(SmallUnigram()));
  EXPECT_THAT(tokenizer->Encode("a☃水b"), ElementsAre(kSpace, kA, 2, kB));
  EXPECT_THAT(tokenizer->Encode("a\xFF\xFE"), ElementsAre(kSpace, kA, 2));
  EXPECT_EQ(tokenizer->TokenBytes(2), "");
  EXPECT_EQ(tokenizer->TokenName(2), "<unk>");
}

TEST(UnigramTokenizerTest, UnknownCharactersBecomeBytesWhereThereAreSome) {
  Vocabulary vocab = BaseVocabulary();
  for (const char* piece : {"▁", "a"}) AddToken(&vocab, piece, -1);
  Keys keys = UnigramKeys(vocab);
  keys["tokenizer.ggml.unknown_token_id"] = GgufValue::u32(0);
  const auto tokenizer = TokenizerFromKeys(keys);
  const std::string text = "a☃a \xFF\xE2\x98";
  EXPECT_THAT(
      tokenizer->Encode(text),
      ElementsAre(kFirstPieceId, kFirstPieceId + 1, kFirstByteId + 0xE2, kFirstByteId + 0x98,
                  kFirstByteId + 0x83, kFirstPieceId + 1, kFirstPieceId, kFirstByteId + 0xFF,
                  kFirstByteId + 0xE2, kFirstByteId + 0x98));
  EXPECT_EQ(tokenizer->Decode(tokenizer->Encode(text)), text);
}

TEST(UnigramTokenizerTest, SpacesGoByTheFilesKeys) {
  Keys keys = UnigramKeys(SmallUnigram());
  keys["tokenizer.ggml.remove_extra_whitespaces"] = GgufValue::boolean(true);
  EXPECT_THAT(TokenizerFromKeys(keys)->Encode("  ab  b "), ElementsAre(kSpaceAb, kSpace, kB));
  EXPECT_THAT(TokenizerFromKeys(keys)->Encode("   "), IsEmpty());
  keys["tokenizer.ggml.remove_extra_whitespaces"] = GgufValue::boolean(false);
  keys["tokenizer.ggml.add_space_prefix"] = GgufValue::boolean(false);
  EXPECT_THAT(TokenizerFromKeys(keys)->Encode("a  b"), ElementsAre(kA, kSpace, kSpace, kB));
  keys["tokenizer.ggml.add_space_prefix"] = GgufValue::boolean(true);
  keys["tokenizer.ggml.treat_whitespace_as_suffix"] = GgufValue::boolean(true);
  EXPECT_THAT(TokenizerFromKeys(keys)->Encode("b"), ElementsAre(kB, kSpace));
  EXPECT_FALSE(TokenizerFromKeys(keys)->adds_space_prefix());
  keys["tokenizer.ggml.escape_whitespaces"] = GgufValue::boolean(false);
  EXPECT_THAT(TokenizerFromKeys(keys)->Encode("b▁ b"), ElementsAre(kB, kSpace, 2, kB, 2));
  keys["tokenizer.ggml.model"] = GgufValue::string("llama");
  EXPECT_THAT(ErrorOf(keys), HasSubstr("what SentencePiece BPE is used with"));
}

TEST(UnigramTokenizerTest, SpecialTokensAreCutOut) {
  Vocabulary vocab = SmallUnigram();
  const int32_t mark = AddToken(&vocab, "[b]", 0, TokenType::kUserDefined);
  const auto tokenizer = TokenizerFromKeys(UnigramKeys(vocab));
  EXPECT_THAT(tokenizer->Encode("a[b]b"), ElementsAre(kSpace, kA, mark, kB));
  EXPECT_THAT(tokenizer->Encode("[b]"), ElementsAre(kSpace, mark));
  EXPECT_EQ(tokenizer->Decode(tokenizer->Encode("a[b]b")), "a[b]b");
  EXPECT_THAT(tokenizer->Encode("ab</s>ab", true), ElementsAre(kSpaceAb, 1, kSpaceAb));
  EXPECT_THAT(tokenizer->Encode("</s>"), Each(testing::Ne(1)));
  EXPECT_TRUE(tokenizer->EndsText(1));
  EXPECT_EQ(tokenizer->bos_id(), -1);
  EXPECT_EQ(tokenizer->EncodePrompt("ab"), tokenizer->Encode("ab"));
}

TEST(UnigramTokenizerTest, OddScoresAreOddTextsAndNoMore) {
  for (const float score : {std::numeric_limits<float>::max(), -std::numeric_limits<float>::max(),
                            std::numeric_limits<float>::denorm_min(), 0.0F}) {
    Vocabulary vocab = SmallUnigram();
    for (int32_t id = kSpace; id < vocab.size(); ++id) vocab.scores[id] = score;
    const auto tokenizer = TokenizerFromKeys(UnigramKeys(vocab));
    const std::string text = "abcabcab é abc" + std::string(2000, 'a');
    EXPECT_EQ(tokenizer->Decode(tokenizer->Encode(text)), text);
  }
  Vocabulary vocab = SmallUnigram();
  vocab.scores[kA] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(ErrorOf(UnigramKeys(vocab)), HasSubstr("score of token 4: expected a finite number"));
}

TEST(UnigramTokenizerTest, NormalisersThatAreNoneAreRefused) {
  Keys keys = UnigramKeys(SmallUnigram());
  const char* key = "tokenizer.ggml.precompiled_charsmap";
  keys[key] = GgufValue::string("x");
  EXPECT_THAT(ErrorOf(keys), HasSubstr("expected an array of bytes"));
  keys[key] = IntArray({1, 2, 3, 4});
  EXPECT_THAT(ErrorOf(keys), HasSubstr("expected an array of bytes"));
  keys[key] = GgufValue::array(GgufType::kU8, std::vector<uint64_t>{1, 2, 3});
  EXPECT_THAT(ErrorOf(keys), HasSubstr("expected at least 4 bytes, found 3"));
  keys[key] = GgufValue::array(GgufType::kI8, std::vector<int64_t>{-1, -1, -1, -1, 0});
  EXPECT_THAT(ErrorOf(keys), HasSubstr("found an array of 4294967295 bytes"));
  keys[key] = GgufValue::array(GgufType::kU8, std::vector<uint64_t>{});
  EXPECT_EQ(ErrorOf(keys), "no error");
}

// The reference: all ways to cut a text, one piece after the other.
double BestSum(const Vocabulary& vocab, const std::string& text, double unknown) {
  if (text.empty()) return 0;
  double best = -std::numeric_limits<double>::infinity();
  bool is_piece = false;
  for (int32_t id = kSpace; id < vocab.size(); ++id) {
    const std::string& name = vocab.tokens[id];
    if (text.compare(0, name.size(), name) != 0) continue;
    is_piece = is_piece || name.size() == 1;
    best = std::max(best, vocab.scores[id] + BestSum(vocab, text.substr(name.size()), unknown));
  }
  if (!is_piece) best = std::max(best, unknown + BestSum(vocab, text.substr(1), unknown));
  return best;
}

TEST(UnigramTokenizerTest, NoOtherWayHasALargerSum) {
  std::mt19937 random(17);
  for (int round = 0; round < 60; ++round) {
    Vocabulary vocab = SmallUnigram();
    vocab.tokens.resize(kSpace);
    vocab.scores.resize(kSpace);
    vocab.types.resize(kSpace);
    double least = 0;
    for (const char* piece : {"a", "b", "ab", "ba", "aa", "bab", "aba", "abab", "bbb"}) {
      AddToken(&vocab, piece, -static_cast<float>(random() % 64) / 4);
      least = std::min<double>(least, vocab.scores.back());
    }
    Keys keys = UnigramKeys(vocab);
    keys["tokenizer.ggml.add_space_prefix"] = GgufValue::boolean(false);
    const auto tokenizer = TokenizerFromKeys(keys);
    for (int i = 0; i < 10; ++i) {
      std::string text;
      for (size_t n = random() % 11; n > 0; --n) text += random() % 2 == 0 ? 'a' : 'b';
      double sum = 0;
      for (const int32_t id : tokenizer->Encode(text)) sum += vocab.scores[id];
      EXPECT_EQ(sum, BestSum(vocab, text, least - 10)) << text;
    }
  }
}

TEST(UnigramTokenizerTest, ThreadsEncodeAtTheSameTime) {
  const auto tokenizer = TokenizerFromKeys(UnigramKeys(SmallUnigram()));
  std::string text;
  for (int i = 0; i < 3000; ++i) text += "abc ab" + std::to_string(i) + "c ";
  const std::vector<int32_t> expected = tokenizer->Encode(text);
  std::vector<std::vector<int32_t>> ids(4);
  std::vector<std::thread> threads;
  for (auto& own : ids) threads.emplace_back([&] { own = tokenizer->Encode(text); });
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(ids, Each(expected));
}

TEST(UnigramTokenizerTest, ALongTextCanBeInterrupted) {
  const auto tokenizer = TokenizerFromKeys(UnigramKeys(SmallUnigram()));
  std::string words;
  for (int i = 0; i < (1 << 16); ++i) words += " a";
  RequestInterrupt();
  EXPECT_THROW(tokenizer->Encode(std::string(1 << 20, 'a')), Interrupted) << "within a word";
  EXPECT_THROW(tokenizer->Encode(words), Interrupted);
  ClearInterrupt();
}

}  // namespace
}  // namespace thermocline
