// Vocabularies as files give them: what is filled in, and what is refused with which words.
#include "runtime/text/vocabulary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
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

std::string ErrorOf(const std::function<void(Vocabulary*)>& change) {
  Vocabulary vocab = HelloVocabulary();
  change(&vocab);
  return ErrorOf(KeysOf(vocab));
}

TEST(VocabularyTest, FillsInWhatTheFileLeavesOut) {
  const auto tokenizer = TokenizerFromKeys(KeysOf(HelloVocabulary()));
  EXPECT_EQ(tokenizer->vocab_size(), HelloVocabulary().size());
  EXPECT_EQ(tokenizer->bos_id(), 1);
  EXPECT_EQ(tokenizer->eos_id(), 2);
  EXPECT_TRUE(tokenizer->add_bos());
  EXPECT_TRUE(tokenizer->adds_space_prefix());
  EXPECT_TRUE(tokenizer->EndsText(2));
  EXPECT_FALSE(tokenizer->EndsText(1));
  EXPECT_FALSE(tokenizer->EndsText(-1));
}

TEST(VocabularyTest, FollowsTheFilesKeys) {
  Vocabulary vocab = HelloVocabulary();
  const int32_t eot = AddToken(&vocab, "<|eot|>", 0, TokenType::kControl);
  Keys keys = KeysOf(vocab);
  keys["tokenizer.ggml.bos_token_id"] = GgufValue::u32(2);
  keys["tokenizer.ggml.eos_token_id"] = GgufValue::u32(1);
  keys["tokenizer.ggml.eot_token_id"] = GgufValue::u32(static_cast<uint32_t>(eot));
  keys["tokenizer.ggml.add_bos_token"] = GgufValue::boolean(false);
  keys["tokenizer.ggml.add_eos_token"] = GgufValue::boolean(true);
  keys["tokenizer.ggml.add_space_prefix"] = GgufValue::boolean(false);
  const auto tokenizer = TokenizerFromKeys(keys);
  EXPECT_TRUE(tokenizer->EndsText(1));
  EXPECT_TRUE(tokenizer->EndsText(eot));
  EXPECT_FALSE(tokenizer->EndsText(2));
  EXPECT_FALSE(tokenizer->adds_space_prefix());
  const auto hello = tokenizer->Encode("hello");
  // add_eos_token is for whole texts: nothing would follow a prompt that ends with EOS.
  EXPECT_THAT(tokenizer->EncodePrompt("hello"), ElementsAre(hello.at(0)));
}

TEST(VocabularyTest, WhatEndsAMessageOfAReplyEndsNoReply) {
  Vocabulary vocab = HelloVocabulary();
  const int32_t end = AddToken(&vocab, "<|end|>", 0, TokenType::kControl);
  EXPECT_TRUE(TokenizerFromKeys(KeysOf(vocab))->EndsText(end));
  const int32_t call = AddToken(&vocab, "<|call|>", 0, TokenType::kControl);
  const int32_t last = AddToken(&vocab, "<|return|>", 0, TokenType::kControl);
  const auto harmony = TokenizerFromKeys(KeysOf(vocab));
  EXPECT_FALSE(harmony->EndsText(end));
  EXPECT_TRUE(harmony->EndsText(call));
  EXPECT_TRUE(harmony->EndsText(last));
}

TEST(VocabularyTest, WithoutTokenTypesNamesAndIdsSayThem) {
  Keys keys = KeysOf(HelloVocabulary());
  const auto typed = TokenizerFromKeys(keys);
  keys.erase("tokenizer.ggml.token_type");
  const auto untyped = TokenizerFromKeys(keys);
  for (int32_t id = 0; id < typed->vocab_size(); ++id) {
    EXPECT_EQ(untyped->TokenBytes(id), typed->TokenBytes(id)) << id;
  }
  EXPECT_EQ(untyped->Encode("hello é\xFF"), typed->Encode("hello é\xFF"));
}

TEST(VocabularyTest, OneUnknownTokenIsSettledOn) {
  Vocabulary none = HelloVocabulary();
  none.types[0] = TokenType::kControl;
  EXPECT_NO_THROW(TokenizerFromKeys(KeysOf(none)));
  Vocabulary two = HelloVocabulary();
  two.types[1] = TokenType::kUnknown;
  EXPECT_NO_THROW(TokenizerFromKeys(KeysOf(two)));
}

// A model without a vocabulary takes ids and gives ids.
TEST(VocabularyTest, NoVocabularyRefusesTextAlone) {
  const auto none = TokenizerFromKeys({{"tokenizer.ggml.model", GgufValue::string("no_vocab")}});
  EXPECT_EQ(none->vocab_size(), 0);
  EXPECT_EQ(none->Decode({7, 12}), "[7][12]");
  EXPECT_FALSE(none->EndsText(0));
  EXPECT_THAT([&] { none->Encode("text"); },
              testing::ThrowsMessage<Error>(HasSubstr("the model has no vocabulary")));
}

TEST(VocabularyTest, RefusesOtherTokenizersAndSaysWhatIsSupported) {
  Keys keys = KeysOf(HelloVocabulary());
  for (const std::string kind : {"bert", "rwkv", "plamo2", "whitespace"}) {
    keys["tokenizer.ggml.model"] = GgufValue::string(kind);
    EXPECT_THAT(
        ErrorOf(keys),
        HasSubstr("expected one that is supported: llama (SentencePiece BPE), gpt2 "
                  "(byte-level BPE), gemma4 (BPE over plain text) or t5 (unigram), found \"" +
                  kind + "\""));
  }
  keys.erase("tokenizer.ggml.model");
  EXPECT_THAT(ErrorOf(keys), HasSubstr("the file has no vocabulary"));
}

TEST(VocabularyTest, RefusesMissingArrays) {
  for (const char* key : {"tokenizer.ggml.tokens", "tokenizer.ggml.scores"}) {
    Keys keys = KeysOf(HelloVocabulary());
    keys.erase(key);
    EXPECT_THAT(ErrorOf(keys), HasSubstr(std::string("key ") + key + " is missing"));
  }
}

TEST(VocabularyTest, RefusesArraysOfWrongTypeOrLength) {
  const Keys good = KeysOf(HelloVocabulary());
  const size_t size = HelloVocabulary().tokens.size();
  Keys keys = good;
  keys["tokenizer.ggml.scores"] = FloatArray(std::vector<double>(size - 1));
  EXPECT_THAT(ErrorOf(keys), HasSubstr("length of tokenizer.ggml.scores: expected one per token"));
  keys = good;
  keys["tokenizer.ggml.token_type"] = IntArray(std::vector<int64_t>(size + 1, 1));
  EXPECT_THAT(ErrorOf(keys), HasSubstr("length of tokenizer.ggml.token_type"));
  keys = good;
  keys["tokenizer.ggml.scores"] = GgufValue::u32(3);
  EXPECT_THAT(ErrorOf(keys), HasSubstr("type of tokenizer.ggml.scores"));
  keys = good;
  keys["tokenizer.ggml.token_type"] = StringArray(std::vector<std::string>(size, "1"));
  EXPECT_THAT(ErrorOf(keys), HasSubstr("type of tokenizer.ggml.token_type"));
  keys = good;
  keys["tokenizer.ggml.tokens"] = GgufValue::string("hello");
  EXPECT_THAT(ErrorOf(keys), HasSubstr("tokenizer.ggml.tokens"));
  keys = good;
  keys["tokenizer.ggml.add_bos_token"] = GgufValue::string("yes");
  EXPECT_THAT(ErrorOf(keys), HasSubstr("tokenizer.ggml.add_bos_token"));
  Keys empty = good;
  empty["tokenizer.ggml.tokens"] = StringArray({});
  empty["tokenizer.ggml.scores"] = FloatArray({});
  empty["tokenizer.ggml.token_type"] = IntArray({});
  EXPECT_THAT(ErrorOf(empty), HasSubstr("tokenizer.ggml.tokens"));
}

TEST(VocabularyTest, RefusesIdsOutOfRange) {
  for (const char* name : {"bos", "eos", "eot", "unknown"}) {
    const std::string key = std::string("tokenizer.ggml.") + name + "_token_id";
    Keys keys = KeysOf(HelloVocabulary());
    keys[key] = GgufValue::u32(static_cast<uint32_t>(HelloVocabulary().size()));
    EXPECT_THAT(ErrorOf(keys), HasSubstr(key + ": expected an id below the vocabulary's size"));
    keys[key] = GgufValue::u64(std::numeric_limits<uint64_t>::max());
    EXPECT_THAT(ErrorOf(keys), HasSubstr(key));
  }
}

TEST(VocabularyTest, RefusesBadTokens) {
  EXPECT_THAT(ErrorOf([](Vocabulary* v) { v->tokens.back() = "hello"; }),
              HasSubstr("two tokens with one name: expected different names, found \"hello\" as"));
  EXPECT_THAT(ErrorOf([](Vocabulary* v) { v->tokens.back() = std::string(5000, 'x'); }),
              HasSubstr("expected at most 4096 bytes, found 5000"));
  EXPECT_THAT(ErrorOf([](Vocabulary* v) { v->scores.back() = std::nanf(""); }),
              HasSubstr("score of token 281: expected a finite number, found nan"));
  EXPECT_THAT(ErrorOf([](Vocabulary* v) { v->scores[5] = INFINITY; }),
              HasSubstr("score of token 5"));
  EXPECT_THAT(ErrorOf([](Vocabulary* v) { v->types[7] = static_cast<TokenType>(9); }),
              HasSubstr("type of token 7: expected 1 to 6, found 9"));
  EXPECT_THAT(ErrorOf([](Vocabulary* v) { v->types[7] = static_cast<TokenType>(0); }),
              HasSubstr("type of token 7: expected 1 to 6, found 0"));
}

TEST(VocabularyTest, RefusesIncompleteOrMisnamedBytes) {
  EXPECT_THAT(ErrorOf([](Vocabulary* v) { v->types[kFirstByteId + 10] = TokenType::kNormal; }),
              HasSubstr("byte tokens: expected all 256 or none, found 255, without <0x0A>"));
  for (const char* name : {"<0xG0>", "<0x0a>", "<0x000>", "x", "<0x0A"}) {
    EXPECT_THAT(ErrorOf([name](Vocabulary* v) { v->tokens[kFirstByteId + 10] = name; }),
                HasSubstr("name of byte token 13: expected <0x00> to <0xFF>, found"));
  }
  Keys keys = KeysOf(HelloVocabulary());
  keys["tokenizer.ggml.unknown_token_id"] = GgufValue::u32(kFirstByteId);
  Keys only_bytes = keys;
  std::vector<int64_t> types(HelloVocabulary().tokens.size(), 1);
  only_bytes["tokenizer.ggml.token_type"] = IntArray(types);
  EXPECT_THAT(ErrorOf(only_bytes), HasSubstr("unknown token: expected a token that is not a byte"));
}

TEST(VocabularyTest, RefusesUserDefinedTokensTheLibraryCannotHold) {
  EXPECT_THAT(ErrorOf([](Vocabulary* v) {
                AddToken(v, std::string("a\0b", 3), 0, TokenType::kUserDefined);
              }),
              HasSubstr("user-defined token: expected no NUL byte in it, found \"a\\x00b\""));
  const auto nested = [](int n) {
    return [n](Vocabulary* v) {
      for (int i = 1; i <= n; ++i) AddToken(v, std::string(i, '='), 0, TokenType::kUserDefined);
      AddToken(v, "=!", 0, TokenType::kUserDefined);
    };
  };
  EXPECT_EQ(ErrorOf(nested(64)), "no error");
  EXPECT_THAT(ErrorOf(nested(65)), HasSubstr("expected at most 64, found more"));
}

TEST(VocabularyTest, AcceptsStrangeTokensThatDoNoHarm) {
  Vocabulary vocab = HelloVocabulary();
  AddToken(&vocab, "", 0);  // as llama.cpp does
  AddToken(&vocab, "", 0);
  AddToken(&vocab, "", 0, TokenType::kUserDefined);
  const int32_t nul = AddToken(&vocab, std::string("h\0", 2), 5);
  AddToken(&vocab, "\xC3", 0, TokenType::kUserDefined);  // half of "é"
  AddToken(&vocab, "\xFF\xFE", 0);
  const auto tokenizer = TokenizerFromKeys(KeysOf(vocab));
  EXPECT_EQ(tokenizer->Decode(tokenizer->Encode("hello é")), "hello é");
  const std::string with_nul("hh\0\0", 4);
  const std::vector<int32_t> ids = tokenizer->Encode(with_nul);
  EXPECT_THAT(ids, ::testing::Contains(kFirstByteId));
  EXPECT_EQ(tokenizer->Decode(ids), with_nul);
  EXPECT_EQ(tokenizer->TokenBytes(nul), std::string("h\0", 2));
}

TEST(VocabularyTest, ReadsByteNames) {
  EXPECT_EQ(ByteOfTokenName("<0x00>"), 0);
  EXPECT_EQ(ByteOfTokenName("<0xFF>"), 255);
  EXPECT_EQ(ByteOfTokenName("<0x5C>"), 0x5C);
  for (const char* name : {"", "<0x5c>", "<0x5C", "0x5C", "<0x5CC>", "<0X5C>"}) {
    EXPECT_EQ(ByteOfTokenName(name), -1) << name;
  }
}

}  // namespace
}  // namespace thermocline
