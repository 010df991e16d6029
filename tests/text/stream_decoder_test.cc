#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "runtime/text/sentencepiece_tokenizer.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/utf8.h"
#include "tests/text/test_vocabulary.h"

namespace thermocline {
namespace {

std::vector<int32_t> ByteTokens(std::string_view text) {
  std::vector<int32_t> ids;
  for (const char c : text) ids.push_back(kFirstByteId + static_cast<uint8_t>(c));
  return ids;
}

std::string Stream(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  StreamDecoder decoder(tokenizer, /*at_text_start=*/true);
  std::string text;
  for (const int32_t id : ids) {
    const std::string printed = decoder.Push(id);
    EXPECT_TRUE(IsValidUtf8(printed));
    text += printed;
  }
  const std::string rest = decoder.Finish();
  EXPECT_TRUE(IsValidUtf8(rest));
  EXPECT_EQ(decoder.Finish(), "");
  return text + rest;
}

TEST(StreamDecoderTest, HoldsACharacterBackUntilItIsWhole) {
  const SentencePieceTokenizer tokenizer(HelloVocabulary());
  for (const std::string text : {"é", "€", "🦙"}) {
    StreamDecoder decoder(tokenizer, true);
    const std::vector<int32_t> ids = ByteTokens(text);
    for (size_t i = 0; i + 1 < ids.size(); ++i) EXPECT_EQ(decoder.Push(ids[i]), "");
    EXPECT_EQ(decoder.Push(ids.back()), text);
    EXPECT_EQ(decoder.Finish(), "");
  }
}

TEST(StreamDecoderTest, ReplacesABrokenCharacterAsSoonAsItIsBroken) {
  const SentencePieceTokenizer tokenizer(HelloVocabulary());
  StreamDecoder decoder(tokenizer, true);
  EXPECT_EQ(decoder.Push(kFirstByteId + 0xF0), "");
  EXPECT_EQ(decoder.Push(kFirstByteId + 0x9F), "");
  EXPECT_EQ(decoder.Push(kFirstByteId + 'a'), "\uFFFDa");
  EXPECT_EQ(decoder.Push(kFirstByteId + 0xFF), "\uFFFD");
  EXPECT_EQ(decoder.Push(kFirstByteId + 0xE2), "");
  EXPECT_EQ(decoder.Finish(), "\uFFFD");
}

TEST(StreamDecoderTest, DropsTheEncodersSpaceOnceAndOnlyAtTheStart) {
  const SentencePieceTokenizer tokenizer(HelloVocabulary());
  const std::vector<int32_t> ids = tokenizer.EncodePrompt("hello world hello");
  EXPECT_EQ(Stream(tokenizer, ids), "hello world hello");
  StreamDecoder in_the_middle(tokenizer, /*at_text_start=*/false);
  EXPECT_EQ(in_the_middle.Push(ids[1]), " hello");

  Vocabulary without_prefix = HelloVocabulary();
  without_prefix.add_space_prefix = false;
  const SentencePieceTokenizer plain(without_prefix);
  EXPECT_EQ(Stream(plain, plain.Encode(" hello")), " hello");
}

TEST(StreamDecoderTest, RandomTokenStreamsGiveTheWholeDecodeMadeValid) {
  Vocabulary vocab = HelloVocabulary();
  AddToken(&vocab, "\xE2\x82", -50);  // tokens that are not whole characters occur in the wild
  AddToken(&vocab, "\xAC\xF0\x9F", -51);
  AddToken(&vocab, "", 0, TokenType::kUnused);
  const SentencePieceTokenizer tokenizer(vocab);
  std::mt19937 random(7);
  const auto below = [&random](size_t n) { return static_cast<size_t>(random() % n); };
  const std::string characters[] = {"é", "€", "漢", "🦙", "\U0010FFFF", "a", " "};
  for (int round = 0; round < 3000; ++round) {
    std::vector<int32_t> ids;
    for (size_t n = below(24); n > 0; --n) {
      const size_t kind = below(4);
      if (kind == 0) {
        ids.push_back(static_cast<int32_t>(below(vocab.tokens.size())));
      } else if (kind == 1) {
        ids.push_back(kFirstByteId + 0x80 + static_cast<int32_t>(below(0x80)));
      } else {
        const auto bytes = ByteTokens(characters[below(std::size(characters))]);
        // The piece is often whole and sometimes broken off.
        const size_t n_kept = below(3) == 0 ? below(bytes.size() + 1) : bytes.size();
        ids.insert(ids.end(), bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(n_kept));
      }
    }
    ASSERT_EQ(Stream(tokenizer, ids), ReplaceInvalidUtf8(tokenizer.Decode(ids)));
  }
}

}  // namespace
}  // namespace thermocline
