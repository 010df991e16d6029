// Byte-level vocabularies as files give them: what is filled in, and what is refused with which
// words.
#include "runtime/text/bpe_vocabulary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "runtime/core/error.h"
#include "runtime/text/tokenizer.h"
#include "tests/text/test_vocabulary.h"

namespace thermocline {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

GgufValue Id(int32_t id) { return GgufValue::u32(static_cast<uint32_t>(id)); }

TEST(BpeVocabularyTest, FillsInWhatTheFileLeavesOut) {
  Keys keys = BpeKeys({"h e"});
  const auto tokenizer = TokenizerFromKeys(keys);
  EXPECT_EQ(tokenizer->vocab_size(), 258);
  EXPECT_EQ(tokenizer->bos_id(), -1);
  EXPECT_EQ(tokenizer->eos_id(), -1);
  EXPECT_FALSE(tokenizer->add_bos());
  EXPECT_FALSE(tokenizer->adds_space_prefix());
  EXPECT_THAT(tokenizer->EncodePrompt("he"), ElementsAre(MergedId(0)));
  keys.erase("tokenizer.ggml.pre");
  EXPECT_THAT(TokenizerFromKeys(keys)->Encode("12 'S").size(), 5U);
  keys.erase("tokenizer.ggml.token_type");
  EXPECT_THAT(TokenizerFromKeys(keys)->Encode("he"), ElementsAre(MergedId(0)));
}

TEST(BpeVocabularyTest, BosIsTheFilesOrThePretokenizersWish) {
  Keys keys = BpeKeys({});
  const int32_t bos = AddToken(&keys, "<s>", TokenType::kControl);
  keys["tokenizer.ggml.bos_token_id"] = Id(bos);
  EXPECT_THAT(TokenizerFromKeys(keys)->EncodePrompt("a"), ElementsAre('a'));
  keys["tokenizer.ggml.pre"] = GgufValue::string("llama-bpe");
  EXPECT_THAT(TokenizerFromKeys(keys)->EncodePrompt("a"), ElementsAre(bos, 'a'));
  keys["tokenizer.ggml.add_bos_token"] = GgufValue::boolean(false);
  EXPECT_THAT(TokenizerFromKeys(keys)->EncodePrompt("a"), ElementsAre('a'));
  keys["tokenizer.ggml.pre"] = GgufValue::string("gpt-2");
  keys["tokenizer.ggml.add_bos_token"] = GgufValue::boolean(true);
  EXPECT_THAT(TokenizerFromKeys(keys)->EncodePrompt("a"), ElementsAre(bos, 'a'));
}

TEST(BpeVocabularyTest, TextsEndByKeysAndByWellKnownNames) {
  Keys keys = BpeKeys({});  // with <|end|>
  const int32_t eos = AddToken(&keys, "stop", TokenType::kControl);
  const int32_t eot = AddToken(&keys, "turn", TokenType::kControl);
  const int32_t eom = AddToken(&keys, "call", TokenType::kControl);
  const int32_t named = AddToken(&keys, "<|im_end|>", TokenType::kControl);
  const int32_t typed_normal = AddToken(&keys, "<|eot_id|>", TokenType::kNormal);
  keys["tokenizer.ggml.eos_token_id"] = Id(eos);
  keys["tokenizer.ggml.eot_token_id"] = Id(eot);
  keys["tokenizer.ggml.eom_token_id"] = Id(eom);
  keys["tokenizer.ggml.eos_token_ids"] = IntArray({eos, 'z'});
  const auto tokenizer = TokenizerFromKeys(keys);
  for (const int32_t id : {eos, eot, eom, named, MergedId(0), int32_t{'z'}}) {
    EXPECT_TRUE(tokenizer->EndsText(id)) << id;
  }
  for (const int32_t id : {typed_normal, int32_t{'a'}, -1}) {
    EXPECT_FALSE(tokenizer->EndsText(id)) << id;
  }
}

TEST(BpeVocabularyTest, FurtherEndsAreChecked) {
  Keys keys = BpeKeys({});
  keys["tokenizer.ggml.eos_token_ids"] = IntArray({-1});
  EXPECT_THAT(ErrorOf(keys), HasSubstr("eos_token_ids: expected ids below"));
  keys["tokenizer.ggml.eos_token_ids"] = FloatArray({1});
  EXPECT_THAT(ErrorOf(keys), HasSubstr("expected an array of integers"));
}

TEST(BpeVocabularyTest, MergesOfWhatIsNoTokenAreLeftOut) {
  Keys keys = BpeKeys({"a b"});
  keys["tokenizer.ggml.merges"] =
      StringArray({"b a", "ab xyz", "xyz b", "a b", "< |end|>", "a b", "  "});
  EXPECT_THAT(ErrorOf(keys), HasSubstr("merge 6: expected two tokens with a space"));
  keys["tokenizer.ggml.merges"] = StringArray({"b a", "ab xyz", "xyz b", "a b", "< |end|>", "a b"});
  EXPECT_THAT(TokenizerFromKeys(keys)->Encode("abab"), ElementsAre(MergedId(0), MergedId(0)));
}

TEST(BpeVocabularyTest, BytesWithoutATokenAreUnknownOrLeftOut) {
  Keys keys = BpeKeys({"a b"});
  auto& tokens = std::get<std::vector<std::string>>(
      std::get<GgufValue::Array>(keys["tokenizer.ggml.tokens"].value));
  tokens['z'] = "zzz";
  EXPECT_THAT(TokenizerFromKeys(keys)->Encode("azb"), ElementsAre('a', 'b'));
  const int32_t unknown = AddToken(&keys, "<unk>", TokenType::kUnknown);
  keys["tokenizer.ggml.unknown_token_id"] = Id(unknown);
  EXPECT_THAT(TokenizerFromKeys(keys)->Encode("azb"), ElementsAre('a', unknown, 'b'));
  // Files that name their end of text here do not mean that text turns into it.
  keys["tokenizer.ggml.unknown_token_id"] = Id(MergedId(1));
  EXPECT_THAT(TokenizerFromKeys(keys)->Encode("azb"), ElementsAre('a', 'b'));
}

TEST(BpeVocabularyTest, TokensThatAreNoSpellingAreTheirNames) {
  Keys keys = BpeKeys({});
  const int32_t word = AddToken(&keys, "▁한 글", TokenType::kNormal);
  AddToken(&keys, "", TokenType::kNormal);
  AddToken(&keys, "", TokenType::kControl);
  const int32_t unused = AddToken(&keys, "[PAD7]", TokenType::kUnused);
  const auto tokenizer = TokenizerFromKeys(keys);
  EXPECT_EQ(tokenizer->TokenBytes(word), "▁한 글");
  EXPECT_EQ(tokenizer->TokenBytes(unused), "");
  EXPECT_EQ(tokenizer->TokenName(unused), "[PAD7]");
}

TEST(BpeVocabularyTest, RefusesMissingArraysAndGarbage) {
  for (const char* key : {"tokenizer.ggml.tokens", "tokenizer.ggml.merges"}) {
    Keys keys = BpeKeys({"a b"});
    keys.erase(key);
    EXPECT_THAT(ErrorOf(keys), HasSubstr(std::string("key ") + key + " is missing"));
    keys[key] = GgufValue::u32(1);
    EXPECT_THAT(ErrorOf(keys), HasSubstr(key));
    keys[key] = IntArray({1, 2});
    EXPECT_THAT(ErrorOf(keys), HasSubstr(key));
  }
  for (const char* merge : {"", " ", "ab", "ab ", " a", "a\n"}) {
    Keys keys = BpeKeys({"a b"});
    keys["tokenizer.ggml.merges"] = StringArray({"a b", merge});
    EXPECT_THAT(ErrorOf(keys),
                HasSubstr("merge 1: expected two tokens with a space between them, found \""));
  }
  Keys keys = BpeKeys({"a b"});
  keys["tokenizer.ggml.token_type"] = IntArray({1, 1, 1});
  EXPECT_THAT(ErrorOf(keys), HasSubstr("length of tokenizer.ggml.token_type: expected one per "
                                       "token (258), found 3"));
  keys = BpeKeys({"a b"});
  AddToken(&keys, "ab", TokenType::kNormal);
  EXPECT_THAT(ErrorOf(keys), HasSubstr("two tokens with one name"));
}

TEST(BpeVocabularyTest, RefusesIdsOutOfRange) {
  for (const char* name : {"bos", "eos", "eot", "eom", "unknown"}) {
    const std::string key = std::string("tokenizer.ggml.") + name + "_token_id";
    Keys keys = BpeKeys({});
    keys[key] = GgufValue::u64(257);
    EXPECT_THAT(ErrorOf(keys), HasSubstr(key + ": expected an id below the vocabulary's size"));
    keys[key] = GgufValue::u64(std::numeric_limits<uint64_t>::max());
    EXPECT_THAT(ErrorOf(keys), HasSubstr(key));
  }
}

TEST(BpeVocabularyTest, RefusesUnknownPretokenizersAndVocabulariesWithoutBytes) {
  Keys keys = BpeKeys({});
  keys["tokenizer.ggml.pre"] = GgufValue::string("my\nown");
  EXPECT_THAT(ErrorOf(keys), HasSubstr("found \"my\\x0aown\"; another way to cut texts"));
  keys = BpeKeys({});
  keys["tokenizer.ggml.tokens"] = StringArray({"▁a", "<0x41>"});
  keys["tokenizer.ggml.token_type"] = IntArray({1, 6});
  EXPECT_THAT(ErrorOf(keys), HasSubstr("tokens of single bytes: expected those of a byte-level"));
}

}  // namespace
}  // namespace thermocline
