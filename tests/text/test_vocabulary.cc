#include "tests/text/test_vocabulary.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/core/error.h"
#include "runtime/gguf/gguf_reader.h"
#include "runtime/gguf/gguf_writer.h"
#include "runtime/text/byte_level.h"
#include "tests/support/temp_dir.h"

namespace thermocline {

int32_t AddToken(Vocabulary* vocab, const std::string& name, float score, TokenType type) {
  vocab->tokens.push_back(name);
  vocab->scores.push_back(score);
  vocab->types.push_back(type);
  return vocab->size() - 1;
}

Vocabulary BaseVocabulary() {
  Vocabulary vocab;
  vocab.path = "test.gguf";
  vocab.unknown_id = AddToken(&vocab, "<unk>", 0, TokenType::kUnknown);
  vocab.bos_id = AddToken(&vocab, "<s>", 0, TokenType::kControl);
  vocab.eos_id = AddToken(&vocab, "</s>", 0, TokenType::kControl);
  for (int byte = 0; byte < 256; ++byte) {
    vocab.byte_ids[byte] = AddToken(&vocab, fmt::format("<0x{:02X}>", byte), 0, TokenType::kByte);
  }
  vocab.has_byte_tokens = true;
  return vocab;
}

Vocabulary HelloVocabulary() {
  Vocabulary vocab = BaseVocabulary();
  float score = 0;
  for (const char* piece :
       {"he", "ll", "▁w", "or", "hell", "ld", "hello", "▁hello", "▁wor", "▁world", "▁▁", "▁",
        "h",  "e",  "l",  "o",  "w",    "r",  "d",     "é",      "<",    "s",      ">"}) {
    AddToken(&vocab, piece, score);
    score -= 1;
  }
  return vocab;
}

GgufValue StringArray(std::vector<std::string> values) {
  return {GgufType::kArray, GgufType::kString, GgufValue::Array{std::move(values)}};
}

GgufValue FloatArray(std::vector<double> values) {
  return {GgufType::kArray, GgufType::kF32, GgufValue::Array{std::move(values)}};
}

GgufValue IntArray(std::vector<int64_t> values) {
  return {GgufType::kArray, GgufType::kI32, GgufValue::Array{std::move(values)}};
}

Keys KeysOf(const Vocabulary& vocab) {
  std::vector<int64_t> types;
  for (const TokenType type : vocab.types) types.push_back(static_cast<int64_t>(type));
  Keys keys;
  keys["tokenizer.ggml.model"] = GgufValue::string("llama");
  keys["tokenizer.ggml.tokens"] = StringArray(vocab.tokens);
  keys["tokenizer.ggml.scores"] = FloatArray({vocab.scores.begin(), vocab.scores.end()});
  keys["tokenizer.ggml.token_type"] = IntArray(std::move(types));
  return keys;
}

Keys BpeKeys(const std::vector<std::string>& merges) {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) {
    tokens.emplace_back(ByteLevelChar(static_cast<uint8_t>(byte)));
  }
  for (std::string joined : merges) {
    joined.erase(joined.find(' '), 1);
    tokens.push_back(joined);
  }
  Keys keys;
  keys["tokenizer.ggml.model"] = GgufValue::string("gpt2");
  keys["tokenizer.ggml.pre"] = GgufValue::string("qwen2");
  keys["tokenizer.ggml.token_type"] = IntArray(std::vector<int64_t>(tokens.size(), 1));
  keys["tokenizer.ggml.tokens"] = StringArray(std::move(tokens));
  keys["tokenizer.ggml.merges"] = StringArray(merges);
  AddToken(&keys, "<|end|>", TokenType::kControl);
  return keys;
}

int32_t AddToken(Keys* keys, const std::string& name, TokenType type) {
  const auto array = [keys](const char* key) -> GgufValue::Array& {
    return std::get<GgufValue::Array>(keys->at(key).value);
  };
  auto& tokens = std::get<std::vector<std::string>>(array("tokenizer.ggml.tokens"));
  tokens.push_back(name);
  std::get<std::vector<int64_t>>(array("tokenizer.ggml.token_type"))
      .push_back(static_cast<int64_t>(type));
  return static_cast<int32_t>(tokens.size()) - 1;
}

std::unique_ptr<Tokenizer> TokenizerFromKeys(const Keys& keys) {
  const TempDir folder;
  const std::string path = folder.file("vocab.gguf");
  GgufWriter writer(path);
  writer.Set("general.architecture", GgufValue::string("llama"));
  for (const auto& [key, value] : keys) writer.Set(key, value);
  writer.Finish();
  return MakeTokenizer(GgufReader(path));
}

std::string ErrorOf(const Keys& keys) {
  try {
    TokenizerFromKeys(keys);
  } catch (const Error& e) {
    std::string message = e.what();
    EXPECT_THAT(message, testing::HasSubstr("vocab.gguf: "));
    EXPECT_EQ(message.find('\n'), std::string::npos);
    return message;
  }
  return "no error";
}

}  // namespace thermocline
