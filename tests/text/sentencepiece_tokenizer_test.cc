#include "runtime/text/sentencepiece_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"
#include "runtime/text/sentencepiece_proto.h"
#include "tests/text/test_vocabulary.h"

namespace thermocline {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

int32_t IdOf(const Vocabulary& vocab, const std::string& name) {
  const auto found = std::find(vocab.tokens.begin(), vocab.tokens.end(), name);
  return found == vocab.tokens.end() ? -1 : static_cast<int32_t>(found - vocab.tokens.begin());
}

// Returns what the library gives for the whole text in one call, with its own normaliser at work.
std::vector<int32_t> EncodeInOneCall(const Vocabulary& vocab, const std::string& text) {
  sentencepiece::SentencePieceProcessor processor;
  const auto status = processor.LoadFromSerializedProto(
      SentencepieceModelProto(vocab, {vocab.add_space_prefix, vocab.remove_extra_spaces}));
  EXPECT_TRUE(status.ok()) << status.ToString();
  std::vector<int> ids;
  EXPECT_TRUE(processor.Encode(text, &ids).ok());
  return {ids.begin(), ids.end()};
}

TEST(SentencePieceTokenizerTest, MergesByScoreAndFallsBackToBytes) {
  const Vocabulary vocab = HelloVocabulary();
  const SentencePieceTokenizer tokenizer(vocab);
  EXPECT_THAT(tokenizer.Encode("hello world"),
              ElementsAre(IdOf(vocab, "▁hello"), IdOf(vocab, "▁world")));
  EXPECT_THAT(tokenizer.Encode("é!"),
              ElementsAre(IdOf(vocab, "▁"), IdOf(vocab, "é"), kFirstByteId + '!'));
  EXPECT_THAT(tokenizer.Encode("€"), ElementsAre(IdOf(vocab, "▁"), kFirstByteId + 0xE2,
                                                 kFirstByteId + 0x82, kFirstByteId + 0xAC));
  EXPECT_THAT(tokenizer.Encode(""), IsEmpty());
  EXPECT_THAT(tokenizer.Encode(" "), ElementsAre(IdOf(vocab, "▁▁")));
}

TEST(SentencePieceTokenizerTest, PromptGetsBosWhereThereIsOne) {
  Vocabulary vocab = HelloVocabulary();
  const int32_t hello = IdOf(vocab, "▁hello");
  EXPECT_THAT(SentencePieceTokenizer(vocab).EncodePrompt("hello"), ElementsAre(1, hello));
  EXPECT_THAT(SentencePieceTokenizer(vocab).EncodePrompt(""), ElementsAre(1));
  vocab.bos_id = -1;
  EXPECT_THAT(SentencePieceTokenizer(vocab).EncodePrompt("hello"), ElementsAre(hello));
}

TEST(SentencePieceTokenizerTest, TextThatLooksLikeAControlTokenIsText) {
  Vocabulary vocab = HelloVocabulary();
  AddToken(&vocab, "#", 0, TokenType::kControl);  // one character: reachable without a merge
  AddToken(&vocab, "<s", 100);                    // a way to merge up to "<s>"
  const SentencePieceTokenizer tokenizer(vocab);
  for (const std::string text : {"<s>", "</s>", "<unk>", "#", "h#<s>#", "<0x41>"}) {
    const std::vector<int32_t> ids = tokenizer.Encode(text);
    for (const int32_t id : ids) EXPECT_NE(vocab.types[id], TokenType::kControl) << text;
    EXPECT_EQ(tokenizer.Decode(ids), text);
  }
}

TEST(SentencePieceTokenizerTest, ControlTokensAreParsedWhereThatIsAskedFor) {
  const Vocabulary vocab = HelloVocabulary();
  const int32_t hello = IdOf(vocab, "▁hello");
  const SentencePieceTokenizer tokenizer(vocab);
  EXPECT_THAT(tokenizer.Encode("<s>hello</s>hello</s>", true), ElementsAre(1, hello, 2, hello, 2));
  EXPECT_THAT(tokenizer.EncodePrompt("</s>", true), ElementsAre(1, 2));
  EXPECT_THAT(tokenizer.Encode("", true), IsEmpty());
  EXPECT_EQ(tokenizer.TokenName(2), "</s>");
  EXPECT_EQ(tokenizer.TokenName(hello), " hello");
}

TEST(SentencePieceTokenizerTest, TokenBytes) {
  Vocabulary vocab = HelloVocabulary();
  const int32_t user = AddToken(&vocab, "▁▁▁x", 0, TokenType::kUserDefined);
  const int32_t empty = AddToken(&vocab, "", 0, TokenType::kUnused);
  const SentencePieceTokenizer tokenizer(vocab);
  EXPECT_EQ(tokenizer.TokenBytes(0), "");
  EXPECT_EQ(tokenizer.TokenBytes(1), "");
  EXPECT_EQ(tokenizer.TokenBytes(2), "");
  EXPECT_EQ(tokenizer.TokenBytes(kFirstByteId), std::string(1, '\0'));
  EXPECT_EQ(tokenizer.TokenBytes(kFirstByteId + 255), "\xFF");
  EXPECT_EQ(tokenizer.TokenBytes(IdOf(vocab, "▁world")), " world");
  EXPECT_EQ(tokenizer.TokenBytes(user), "   x");
  EXPECT_EQ(tokenizer.TokenBytes(empty), "");
}

TEST(SentencePieceTokenizerTest, UserDefinedTokensAreFoundWithEitherSpace) {
  Vocabulary vocab = HelloVocabulary();
  const int32_t signs = AddToken(&vocab, "▁▁▁", -1e3F, TokenType::kUserDefined);
  const int32_t spaces = AddToken(&vocab, "    ", -1e3F, TokenType::kUserDefined);
  const int32_t shadowed = AddToken(&vocab, "   ", -1e3F, TokenType::kUserDefined);
  const SentencePieceTokenizer tokenizer(vocab);
  EXPECT_THAT(tokenizer.Encode("  "), ElementsAre(signs));
  EXPECT_THAT(tokenizer.Encode("   "), ElementsAre(spaces));
  EXPECT_EQ(tokenizer.TokenBytes(shadowed), "   ");
}

TEST(SentencePieceTokenizerTest, WithoutByteTokensUnknownCharactersAreUnknown) {
  Vocabulary vocab;
  vocab.path = "test.gguf";
  AddToken(&vocab, "<unk>", 0, TokenType::kUnknown);
  AddToken(&vocab, "a", -1);
  AddToken(&vocab, "▁", -2);
  for (const size_t chunk_bytes : {1, 3, 8192}) {
    const SentencePieceTokenizer tokenizer(vocab, chunk_bytes);
    EXPECT_THAT(tokenizer.Encode("a"), ElementsAre(2, 1));
    EXPECT_THAT(tokenizer.Encode("azzzzéa\xFF\xFE"), ElementsAre(2, 1, 0, 1, 0));
    EXPECT_EQ(tokenizer.Encode("zza éz zz"), EncodeInOneCall(vocab, "zza éz zz"));
  }
}

TEST(SentencePieceTokenizerTest, BytesThatAreNotUtf8SurviveARoundTrip) {
  const Vocabulary vocab = HelloVocabulary();
  const SentencePieceTokenizer tokenizer(vocab);
  EXPECT_THAT(tokenizer.Encode("\xFF"), ElementsAre(IdOf(vocab, "▁"), kFirstByteId + 0xFF));
  EXPECT_THAT(tokenizer.Encode("hello\xE2\x82 world"),
              ElementsAre(IdOf(vocab, "▁hello"), kFirstByteId + 0xE2, kFirstByteId + 0x82,
                          IdOf(vocab, "▁world")));
  std::mt19937 random(3);
  for (int round = 0; round < 2000; ++round) {
    std::string text(random() % 40, '\0');
    // Texts have bytes of every kind, then mostly those of the vocabulary, so that some of the text
    // merges.
    for (char& c : text)
      c = random() % 3 == 0 ? static_cast<char>(random()) : "hello world"[random() % 11];
    // U+2581 itself is the one character that decodes to another (a space).
    if (text.find("\xE2\x96\x81") != std::string::npos) continue;
    ASSERT_EQ(tokenizer.Decode(tokenizer.Encode(text)), text);
  }
}

// Makes a vocabulary of random merges over few characters, so that texts merge deeply and pieces
// span words.
Vocabulary RandomVocabulary(std::mt19937* random) {
  Vocabulary vocab = BaseVocabulary();
  for (const char* piece : {"a", "b", "c", "▁", "é", "漢"}) {
    AddToken(&vocab, piece, -static_cast<float>((*random)() % 20));
  }
  const int32_t first = kFirstPieceId;
  const TokenType rare[] = {TokenType::kUnused, TokenType::kUserDefined};
  for (int i = 0; i < 60; ++i) {
    const auto any = [&]() {
      return vocab.tokens[first + static_cast<int32_t>((*random)() % (vocab.size() - first))];
    };
    const std::string name = any() + any();
    if (name.size() > 40 || IdOf(vocab, name) >= 0) continue;
    const TokenType type = (*random)() % 8 == 0 ? rare[(*random)() % 2] : TokenType::kNormal;
    AddToken(&vocab, name, -static_cast<float>((*random)() % 20), type);
  }
  vocab.add_space_prefix = (*random)() % 2 == 0;
  vocab.remove_extra_spaces = (*random)() % 2 == 0;
  return vocab;
}

TEST(SentencePieceTokenizerTest, CuttingATextChangesNoId) {
  std::mt19937 random(11);
  const char* const alphabet[] = {"a", "b", "c", " ", " ", "é", "漢", "x", "\n", "▁"};
  for (int round = 0; round < 150; ++round) {
    const Vocabulary vocab = RandomVocabulary(&random);
    const SentencePieceTokenizer every_place(vocab, 1);
    const SentencePieceTokenizer some_places(vocab, 17);
    for (int i = 0; i < 20; ++i) {
      std::string text;
      for (size_t n = random() % 80; n > 0; --n) text += alphabet[random() % std::size(alphabet)];
      // The library also strips U+2581 where it is asked to strip spaces at the end; we do not.
      if (vocab.remove_extra_spaces) text += "a";
      const std::vector<int32_t> expected = EncodeInOneCall(vocab, text);
      ASSERT_EQ(every_place.Encode(text), expected) << text;
      ASSERT_EQ(some_places.Encode(text), expected) << text;
    }
  }
}

// Pieces of arbitrary bytes and every type are refused with an Error, or they encode whatever comes
// without loss.
TEST(SentencePieceTokenizerTest, ArbitraryPiecesAreRefusedOrEncodeWithoutLoss) {
  std::mt19937 random(5);
  const char* const parts[] = {"a", "b", " ", "▁", "é", "\xC3", "\xA9", "\xFF", "<", "<s>", "€"};
  const auto random_text = [&](size_t max_parts) {
    std::string text;
    for (size_t n = random() % max_parts; n > 0; --n) text += parts[random() % std::size(parts)];
    if (random() % 16 == 0) text += '\0';
    return text;
  };
  const TokenType types[] = {TokenType::kNormal, TokenType::kNormal, TokenType::kControl,
                             TokenType::kUserDefined, TokenType::kUnused};
  int n_accepted = 0;
  for (int round = 0; round < 300; ++round) {
    Vocabulary vocab = BaseVocabulary();
    AddToken(&vocab, "▁", 0);  // without it a space becomes the bytes of this sign
    for (int i = 0; i < 40; ++i) {
      const std::string name = random_text(4);
      if (!name.empty() && IdOf(vocab, name) >= 0) continue;
      const TokenType type = name.empty() ? TokenType::kUnused : types[random() % std::size(types)];
      AddToken(&vocab, name, static_cast<float>(random() % 9), type);
    }
    try {
      const SentencePieceTokenizer tokenizer(vocab, 1 + random() % 20);
      ++n_accepted;
      for (int i = 0; i < 10; ++i) {
        const std::string text = random_text(30);
        if (text.find("▁") != std::string::npos) continue;  // decodes to a space
        ASSERT_EQ(tokenizer.Decode(tokenizer.Encode(text)), text);
      }
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), ::testing::HasSubstr("no NUL byte"));
    }
  }
  EXPECT_GT(n_accepted, 100);
}

TEST(SentencePieceTokenizerTest, ExtraSpacesAreRemovedOnRequest) {
  Vocabulary vocab = HelloVocabulary();
  vocab.remove_extra_spaces = true;
  const SentencePieceTokenizer tokenizer(vocab);
  for (const std::string text : {"  hello   world  ", "hello", "   ", " ", "", "\n  hello \n "}) {
    EXPECT_EQ(tokenizer.Encode(text), EncodeInOneCall(vocab, text)) << text;
  }
}

TEST(SentencePieceTokenizerTest, LongWorkStopsWhenAsked) {
  const SentencePieceTokenizer tokenizer(HelloVocabulary());
  std::string text;
  while (text.size() < (1U << 16)) text += "hello world ";
  RequestInterrupt();
  EXPECT_THROW(tokenizer.Encode(text), Interrupted);
  EXPECT_NO_THROW(tokenizer.Encode("hello"));
  ClearInterrupt();
  EXPECT_EQ(tokenizer.Decode(tokenizer.Encode(text)), text);
}

TEST(SentencePieceTokenizerTest, TextWithoutAnySafePlaceIsEncodedWhole) {
  Vocabulary vocab = HelloVocabulary();
  std::string run = "==";
  for (int i = 0; i < 6; ++i, run += run) AddToken(&vocab, run, -static_cast<float>(100 + i));
  AddToken(&vocab, "=", -99);
  const SentencePieceTokenizer tokenizer(vocab);
  const std::string text(size_t{1} << 17, '=');
  EXPECT_EQ(tokenizer.Encode(text), EncodeInOneCall(vocab, text));
}

TEST(SentencePieceTokenizerTest, TheLibraryStaysSilentAndItsErrorsBecomeOurs) {
  Vocabulary two_unknown = HelloVocabulary();
  two_unknown.types[5] = TokenType::kUnknown;
  two_unknown.has_byte_tokens = false;
  ::testing::internal::CaptureStderr();
  EXPECT_THROW(SentencePieceTokenizer{two_unknown}, Error);
  const SentencePieceTokenizer tokenizer(HelloVocabulary());
  tokenizer.Encode("hello \xFF wörld");
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace thermocline
