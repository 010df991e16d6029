#include "runtime/text/vocabulary.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>
#include <unordered_map>

#include "runtime/core/error.h"
#include "runtime/gguf/gguf_reader.h"
#include "runtime/text/utf8.h"

namespace thermocline {
namespace {

constexpr size_t kMaxTokens = size_t{1} << 24;
// The longest token, far beyond any real piece. It bounds how deep the library recurses when it
// takes an unused piece apart.
constexpr size_t kMaxTokenBytes = 4096;

constexpr char kTokensKey[] = "tokenizer.ggml.tokens";
constexpr char kScoresKey[] = "tokenizer.ggml.scores";
constexpr char kTypesKey[] = "tokenizer.ggml.token_type";

[[noreturn]] void Fail(const Vocabulary& vocab, std::string what, std::string expected,
                       std::string found) {
  throw Error({vocab.path, std::move(what), std::move(expected), std::move(found), ""});
}

std::string Quoted(const std::string& token) {
  return fmt::format("\"{}\"", Printable(ReplaceInvalidUtf8(token), 40));
}

template <typename T>
const std::vector<T>* ArrayOf(const GgufValue& value) {
  const auto* array = std::get_if<GgufValue::Array>(&value.value);
  return array == nullptr ? nullptr : std::get_if<std::vector<T>>(array);
}

void ReadTokens(const GgufReader& gguf, Vocabulary* vocab) {
  const auto* tokens = gguf.GetStrings(kTokensKey);
  if (tokens == nullptr) Fail(*vocab, fmt::format("key {} is missing", kTokensKey), "", "");
  if (tokens->empty() || tokens->size() > kMaxTokens) {
    Fail(*vocab, fmt::format("length of {}", kTokensKey), fmt::format("1 to {}", kMaxTokens),
         std::to_string(tokens->size()));
  }
  std::unordered_map<std::string_view, size_t> seen;
  seen.reserve(tokens->size());
  for (size_t id = 0; id < tokens->size(); ++id) {
    const std::string& token = (*tokens)[id];
    if (token.size() > kMaxTokenBytes) {
      Fail(*vocab, fmt::format("length of token {}", id),
           fmt::format("at most {} bytes", kMaxTokenBytes), std::to_string(token.size()));
    }
    if (token.empty()) continue;
    const auto [other, is_new] = seen.emplace(token, id);
    if (!is_new) {
      Fail(*vocab, "two tokens with one name", "different names",
           fmt::format("{} as {} and {}", Quoted(token), other->second, id));
    }
  }
  vocab->tokens = *tokens;
}

void ReadScores(const GgufReader& gguf, Vocabulary* vocab) {
  const GgufValue* value = gguf.Find(kScoresKey);
  if (value == nullptr) Fail(*vocab, fmt::format("key {} is missing", kScoresKey), "", "");
  const auto* scores = ArrayOf<double>(*value);
  if (scores == nullptr) {
    Fail(*vocab, fmt::format("type of {}", kScoresKey), "an array of floats", "another type");
  }
  if (scores->size() != vocab->tokens.size()) {
    Fail(*vocab, fmt::format("length of {}", kScoresKey),
         fmt::format("one per token ({})", vocab->tokens.size()), std::to_string(scores->size()));
  }
  vocab->scores.reserve(scores->size());
  for (size_t id = 0; id < scores->size(); ++id) {
    const double score = (*scores)[id];
    if (!(std::abs(score) <= std::numeric_limits<float>::max())) {
      Fail(*vocab, fmt::format("score of token {}", id), "a finite number",
           fmt::format("{}", score));
    }
    vocab->scores.push_back(static_cast<float>(score));
  }
}

template <typename T>
void AppendTypes(const std::vector<T>& numbers, Vocabulary* vocab) {
  if (numbers.size() != vocab->tokens.size()) {
    Fail(*vocab, fmt::format("length of {}", kTypesKey),
         fmt::format("one per token ({})", vocab->tokens.size()), std::to_string(numbers.size()));
  }
  vocab->types.reserve(numbers.size());
  for (size_t id = 0; id < numbers.size(); ++id) {
    const T number = numbers[id];
    if (number < 1 || number > 6) {
      Fail(*vocab, fmt::format("type of token {}", id), "1 to 6", std::to_string(number));
    }
    vocab->types.push_back(static_cast<TokenType>(number));
  }
}

void ReadTypes(const GgufReader& gguf, Vocabulary* vocab) {
  const GgufValue* value = gguf.Find(kTypesKey);
  if (value == nullptr) {
    vocab->types.assign(vocab->tokens.size(), TokenType::kNormal);
  } else if (const auto* as_signed = ArrayOf<int64_t>(*value)) {
    AppendTypes(*as_signed, vocab);
  } else if (const auto* as_unsigned = ArrayOf<uint64_t>(*value)) {
    AppendTypes(*as_unsigned, vocab);
  } else {
    Fail(*vocab, fmt::format("type of {}", kTypesKey), "an array of integers", "another type");
  }
  for (size_t id = 0; id < vocab->tokens.size(); ++id) {
    if (vocab->tokens[id].empty()) vocab->types[id] = TokenType::kUnused;
  }
}

// Returns the id that the file gives, or llama's own where it gives none and the vocabulary is that
// large.
int32_t ReadId(const GgufReader& gguf, const Vocabulary& vocab, const std::string& name,
               int32_t fallback) {
  const std::string key = fmt::format("tokenizer.ggml.{}_token_id", name);
  const auto id = gguf.GetU64(key);
  if (!id) return fallback < vocab.size() ? fallback : -1;
  if (*id >= vocab.tokens.size()) {
    Fail(vocab, key, fmt::format("an id below the vocabulary's size {}", vocab.size()),
         std::to_string(*id));
  }
  return static_cast<int32_t>(*id);
}

// Settles the one unknown token that the library wants. Files that type none, or type several, mean
// the one that unknown_token_id names.
void SettleUnknown(const GgufReader& gguf, Vocabulary* vocab) {
  const int32_t named = ReadId(gguf, *vocab, "unknown", 0);
  const auto first = std::find(vocab->types.begin(), vocab->types.end(), TokenType::kUnknown);
  const bool named_is_typed = vocab->types[named] == TokenType::kUnknown;
  vocab->unknown_id = named_is_typed || first == vocab->types.end()
                          ? named
                          : static_cast<int32_t>(first - vocab->types.begin());
  std::replace(vocab->types.begin(), vocab->types.end(), TokenType::kUnknown, TokenType::kControl);
  if (vocab->types[vocab->unknown_id] == TokenType::kByte) {
    Fail(*vocab, "unknown token", "a token that is not a byte",
         fmt::format("{}, which is {}", vocab->unknown_id,
                     Quoted(vocab->tokens[vocab->unknown_id])));
  }
  vocab->types[vocab->unknown_id] = TokenType::kUnknown;
}

// Settles the byte tokens. Files that type no token as a byte mean those with a byte's name, when
// they are complete.
void SettleBytes(Vocabulary* vocab) {
  vocab->byte_ids.fill(-1);
  const bool typed =
      std::find(vocab->types.begin(), vocab->types.end(), TokenType::kByte) != vocab->types.end();
  int n_found = 0;
  for (int32_t id = 0; id < vocab->size(); ++id) {
    if (typed && vocab->types[id] != TokenType::kByte) continue;
    const int byte = ByteOfTokenName(vocab->tokens[id]);
    if (byte < 0 && !typed) continue;
    if (byte < 0) {
      Fail(*vocab, fmt::format("name of byte token {}", id), "<0x00> to <0xFF>",
           Quoted(vocab->tokens[id]));
    }
    vocab->byte_ids[byte] = id;
    ++n_found;
  }
  if (typed && n_found != 256) {
    const auto gap = std::find(vocab->byte_ids.begin(), vocab->byte_ids.end(), -1);
    Fail(*vocab, "byte tokens", "all 256 or none",
         fmt::format("{}, without <0x{:02X}>", n_found, gap - vocab->byte_ids.begin()));
  }
  vocab->has_byte_tokens = n_found == 256;
  if (!vocab->has_byte_tokens) return;
  for (const int32_t id : vocab->byte_ids) vocab->types[id] = TokenType::kByte;
}

}  // namespace

int ByteOfTokenName(const std::string& name) {
  const auto hex = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
  };
  if (name.size() != 6 || name.compare(0, 3, "<0x") != 0 || name[5] != '>') return -1;
  const int high = hex(name[3]);
  const int low = hex(name[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

Vocabulary ReadSentencepieceVocabulary(const GgufReader& gguf) {
  Vocabulary vocab;
  vocab.path = gguf.path();
  ReadTokens(gguf, &vocab);
  ReadScores(gguf, &vocab);
  ReadTypes(gguf, &vocab);
  SettleBytes(&vocab);
  SettleUnknown(gguf, &vocab);
  vocab.bos_id = ReadId(gguf, vocab, "bos", 1);
  vocab.eos_id = ReadId(gguf, vocab, "eos", 2);
  vocab.eot_id = ReadId(gguf, vocab, "eot", -1);
  if (gguf.Find(kTypesKey) == nullptr) {
    for (const int32_t id : {vocab.bos_id, vocab.eos_id, vocab.eot_id}) {
      if (id >= 0 && vocab.types[id] == TokenType::kNormal) vocab.types[id] = TokenType::kControl;
    }
  }
  vocab.add_bos = gguf.GetBool("tokenizer.ggml.add_bos_token").value_or(true);
  vocab.add_space_prefix = gguf.GetBool("tokenizer.ggml.add_space_prefix").value_or(true);
  vocab.remove_extra_spaces =
      gguf.GetBool("tokenizer.ggml.remove_extra_whitespaces").value_or(false);
  return vocab;
}

}  // namespace thermocline
