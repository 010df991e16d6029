#include "tests/text/test_vocabulary.h"

#include <fmt/format.h>

#include "runtime/gguf/gguf_reader.h"
#include "runtime/gguf/gguf_writer.h"
#include "tests/support/temp_dir.h"

namespace thermocline {

int32_t add_token(Vocabulary* vocab, const std::string& name, float score, TokenType type) {
  vocab->tokens.push_back(name);
  vocab->scores.push_back(score);
  vocab->types.push_back(type);
  return vocab->size() - 1;
}

Vocabulary base_vocabulary() {
  Vocabulary vocab;
  vocab.path = "test.gguf";
  vocab.unknown_id = add_token(&vocab, "<unk>", 0, TokenType::kUnknown);
  vocab.bos_id = add_token(&vocab, "<s>", 0, TokenType::kControl);
  vocab.eos_id = add_token(&vocab, "</s>", 0, TokenType::kControl);
  for (int byte = 0; byte < 256; ++byte) {
    vocab.byte_ids[byte] = add_token(&vocab, fmt::format("<0x{:02X}>", byte), 0, TokenType::kByte);
  }
  vocab.has_byte_tokens = true;
  return vocab;
}

Vocabulary hello_vocabulary() {
  Vocabulary vocab = base_vocabulary();
  float score = 0;
  for (const char* piece :
       {"he", "ll", "▁w", "or", "hell", "ld", "hello", "▁hello", "▁wor", "▁world", "▁▁", "▁",
        "h",  "e",  "l",  "o",  "w",    "r",  "d",     "é",      "<",    "s",      ">"}) {
    add_token(&vocab, piece, score);
    score -= 1;
  }
  return vocab;
}

GgufValue string_array(std::vector<std::string> values) {
  return {GgufType::kArray, GgufType::kString, GgufValue::Array{std::move(values)}};
}

GgufValue float_array(std::vector<double> values) {
  return {GgufType::kArray, GgufType::kF32, GgufValue::Array{std::move(values)}};
}

GgufValue int_array(std::vector<int64_t> values) {
  return {GgufType::kArray, GgufType::kI32, GgufValue::Array{std::move(values)}};
}

Keys keys_of(const Vocabulary& vocab) {
  std::vector<int64_t> types;
  for (const TokenType type : vocab.types) types.push_back(static_cast<int64_t>(type));
  Keys keys;
  keys["tokenizer.ggml.model"] = GgufValue::string("llama");
  keys["tokenizer.ggml.tokens"] = string_array(vocab.tokens);
  keys["tokenizer.ggml.scores"] = float_array({vocab.scores.begin(), vocab.scores.end()});
  keys["tokenizer.ggml.token_type"] = int_array(std::move(types));
  return keys;
}

std::unique_ptr<Tokenizer> tokenizer_from_keys(const Keys& keys) {
  const TempDir folder;
  const std::string path = folder.file("vocab.gguf");
  GgufWriter writer(path);
  writer.set("general.architecture", GgufValue::string("llama"));
  for (const auto& [key, value] : keys) writer.set(key, value);
  writer.finish();
  return make_tokenizer(GgufReader(path));
}

}  // namespace thermocline
