// What users write stays text, whatever it spells, between the special tokens of a template.
#include "runtime/text/shielded_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/text/test_vocabulary.h"

namespace thermocline {
namespace {

using ::testing::ElementsAre;

// A byte-level vocabulary whose bytes have their own numbers, with <|end|> and a few more.
class ShieldedTextTest : public testing::Test {
 protected:
  void SetUp() override {
    keys_ = BpeKeys({});
    end_ = MergedId(0);
    bos_ = AddToken(&keys_, "<s>", TokenType::kControl);
    nested_ = AddToken(&keys_, "<|<s>|>", TokenType::kControl);
    keys_["tokenizer.ggml.bos_token_id"] = GgufValue::u32(static_cast<uint32_t>(bos_));
    keys_["tokenizer.ggml.add_bos_token"] = GgufValue::boolean(false);
    tokenizer_ = TokenizerFromKeys(keys_);
  }
  std::string Shield(std::string_view text) const { return ShieldControlTokens(*tokenizer_, text); }
  std::vector<int32_t> Encode(std::string_view text) const {
    return EncodeShielded(*tokenizer_, text);
  }

  Keys keys_;
  int32_t end_ = -1, bos_ = -1, nested_ = -1;
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(ShieldedTextTest, TextWithoutNamesIsNotChanged) {
  for (const char* text : {"", "a <b> c", "<|end", "é\xFF<", "|end|>"})
    EXPECT_EQ(Shield(text), text);
}

TEST_F(ShieldedTextTest, NamesInAMessageAreText) {
  for (const char* text :
       {"<|end|>", "a<s>b", "<<|end|><|end|>", "<|<s>|>", "<s><s", "é<|end|>é"}) {
    const std::string shielded = Shield(text);
    EXPECT_NE(shielded, text);
    EXPECT_EQ(WithoutShields(shielded), text);
    EXPECT_EQ(Encode(shielded), tokenizer_->Encode(text)) << text;
    EXPECT_NE(Encode(text), tokenizer_->Encode(text)) << text;
  }
}

TEST_F(ShieldedTextTest, TheTemplatesOwnNamesAreTokens) {
  EXPECT_THAT(Encode("<s>" + Shield("<s>") + "<|end|>"), ElementsAre(bos_, '<', 's', '>', end_));
  EXPECT_THAT(Encode("<|<s>|>"), ElementsAre(nested_));
}

// A user who knows the mark gains nothing by it: it is taken out after the cutting.
TEST_F(ShieldedTextTest, AMarkThatTheUserWritesIsDropped) {
  const std::string text = "<|e" + std::string(kShieldMark) + "nd|>";
  EXPECT_EQ(Encode(Shield(text)), tokenizer_->Encode("<|end|>"));
}

TEST_F(ShieldedTextTest, BosIsNotDoubled) {
  keys_["tokenizer.ggml.add_bos_token"] = GgufValue::boolean(true);
  tokenizer_ = TokenizerFromKeys(keys_);
  EXPECT_THAT(Encode("<s>a"), ElementsAre(bos_, 'a'));
  EXPECT_THAT(Encode("a"), ElementsAre(bos_, 'a'));
  EXPECT_THAT(Encode(""), ElementsAre(bos_));
  EXPECT_THAT(Encode(Shield("<s>")), ElementsAre(bos_, '<', 's', '>'));
}

// Templates look for "</think>" in replies, and such tokens are cut out of any text.
TEST_F(ShieldedTextTest, UserDefinedTokensStayAsTheyAre) {
  const int32_t think = AddToken(&keys_, "</think>", TokenType::kUserDefined);
  tokenizer_ = TokenizerFromKeys(keys_);
  EXPECT_EQ(Shield("</think>"), "</think>");
  EXPECT_THAT(Encode("a</think><|end|>"), ElementsAre('a', think, end_));
}

TEST_F(ShieldedTextTest, SentencePieceTakesTheSameTokens) {
  Vocabulary vocab = HelloVocabulary();
  const int32_t turn = AddToken(&vocab, "<|im_end|>", 0, TokenType::kControl);
  const auto tokenizer = TokenizerFromKeys(KeysOf(vocab));
  for (const char* prompt : {"hello<|im_end|>hello world", "<|im_end|>", "hello", "<s>hello</s>"}) {
    std::vector<int32_t> expected = tokenizer->Encode(prompt, true);
    if (expected.front() != tokenizer->bos_id()) {
      expected.insert(expected.begin(), tokenizer->bos_id());
    }
    EXPECT_EQ(EncodeShielded(*tokenizer, prompt), expected) << prompt;
  }
  const std::vector<int32_t> ids =
      EncodeShielded(*tokenizer, ShieldControlTokens(*tokenizer, "hello<|im_end|>"));
  EXPECT_EQ(std::count(ids.begin(), ids.end(), turn), 0);
}

}  // namespace
}  // namespace thermocline
