#include "runtime/text/vocabulary_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "runtime/core/error.h"
#include "runtime/gguf/gguf_reader.h"
#include "runtime/text/utf8.h"

namespace thermocline {
namespace {

constexpr size_t kMaxTokens = size_t{1} << 24;
// The longest token, far beyond any real piece. It bounds how deep sentencepiece recurses when it
// takes an unused piece apart, and how far a text is compared with a special token.
constexpr size_t kMaxTokenBytes = 4096;

constexpr char kTokensKey[] = "tokenizer.ggml.tokens";
constexpr char kTypesKey[] = "tokenizer.ggml.token_type";
constexpr char kEndsKey[] = "tokenizer.ggml.eos_token_ids";

// What a reply ends with in the chat formats of public models, whatever the keys of a file say.
constexpr std::string_view kNamesOfEnds[] = {
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|eot|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<|END_OF_TURN_TOKEN|>",
    "<end_of_utterance>",
    "<｜end▁of▁sentence｜>",
};

// gpt-oss ends each message of a reply with <|end|>, and the reply with one of these.
constexpr std::string_view kHarmonyEnd = "<|end|>";
constexpr std::string_view kHarmonyNamesOfEnds[] = {"<|return|>", "<|call|>"};

void ReadTokens(const GgufReader& gguf, Vocabulary* vocab) {
  const auto* tokens = gguf.GetStrings(kTokensKey);
  if (tokens == nullptr)
    FailVocabulary(*vocab, fmt::format("key {} is missing", kTokensKey), "", "");
  if (tokens->empty() || tokens->size() > kMaxTokens) {
    FailVocabulary(*vocab, fmt::format("length of {}", kTokensKey),
                   fmt::format("1 to {}", kMaxTokens), std::to_string(tokens->size()));
  }
  std::unordered_map<std::string_view, size_t> seen;
  seen.reserve(tokens->size());
  for (size_t id = 0; id < tokens->size(); ++id) {
    const std::string& token = (*tokens)[id];
    if (token.size() > kMaxTokenBytes) {
      FailVocabulary(*vocab, fmt::format("length of token {}", id),
                     fmt::format("at most {} bytes", kMaxTokenBytes), std::to_string(token.size()));
    }
    if (token.empty()) continue;
    const auto [other, is_new] = seen.emplace(token, id);
    if (!is_new) {
      FailVocabulary(*vocab, "two tokens with one name", "different names",
                     fmt::format("{} as {} and {}", QuotedToken(token), other->second, id));
    }
  }
  vocab->tokens = *tokens;
}

// Calls visit with the vector that an array of integers is.
template <typename Visit>
void VisitIntegers(const GgufValue& value, const Vocabulary& vocab, const char* key,
                   const Visit& visit) {
  if (const auto* as_signed = ArrayOf<int64_t>(value)) return visit(*as_signed);
  if (const auto* as_unsigned = ArrayOf<uint64_t>(value)) return visit(*as_unsigned);
  FailVocabulary(vocab, fmt::format("type of {}", key), "an array of integers", "another type");
}

template <typename T>
void AppendTypes(const std::vector<T>& numbers, Vocabulary* vocab) {
  if (numbers.size() != vocab->tokens.size()) {
    FailVocabulary(*vocab, fmt::format("length of {}", kTypesKey),
                   fmt::format("one per token ({})", vocab->tokens.size()),
                   std::to_string(numbers.size()));
  }
  vocab->types.reserve(numbers.size());
  for (size_t id = 0; id < numbers.size(); ++id) {
    const T number = numbers[id];
    if (number < 1 || number > 6) {
      FailVocabulary(*vocab, fmt::format("type of token {}", id), "1 to 6", std::to_string(number));
    }
    vocab->types.push_back(static_cast<TokenType>(number));
  }
}

void ReadTypes(const GgufReader& gguf, Vocabulary* vocab) {
  const GgufValue* value = gguf.Find(kTypesKey);
  if (value == nullptr) {
    vocab->types.assign(vocab->tokens.size(), TokenType::kNormal);
  } else {
    VisitIntegers(*value, *vocab, kTypesKey,
                  [&](const auto& numbers) { AppendTypes(numbers, vocab); });
  }
  for (size_t id = 0; id < vocab->tokens.size(); ++id) {
    if (vocab->tokens[id].empty()) vocab->types[id] = TokenType::kUnused;
  }
}

// Appends the ids of kEndsKey, which some programs write beside the one EOS.
void ReadFurtherEnds(const GgufReader& gguf, Vocabulary* vocab) {
  const GgufValue* value = gguf.Find(kEndsKey);
  if (value == nullptr) return;
  VisitIntegers(*value, *vocab, kEndsKey, [&](const auto& ids) {
    for (const auto id : ids) {
      if (id < 0 || static_cast<uint64_t>(id) >= vocab->tokens.size()) {
        FailVocabulary(*vocab, kEndsKey,
                       fmt::format("ids below the vocabulary's size {}", vocab->size()),
                       std::to_string(id));
      }
      vocab->ends.push_back(static_cast<int32_t>(id));
    }
  });
}

}  // namespace

void FailVocabulary(const Vocabulary& vocab, std::string what, std::string expected,
                    std::string found) {
  throw Error({vocab.path, std::move(what), std::move(expected), std::move(found), ""});
}

std::string QuotedToken(const std::string& token) {
  return fmt::format("\"{}\"", Printable(ReplaceInvalidUtf8(token), 40));
}

Vocabulary ReadTokensAndTypes(const GgufReader& gguf) {
  Vocabulary vocab;
  vocab.path = gguf.path();
  ReadTokens(gguf, &vocab);
  ReadTypes(gguf, &vocab);
  return vocab;
}

int32_t ReadTokenId(const GgufReader& gguf, const Vocabulary& vocab, const std::string& name,
                    int32_t fallback) {
  const std::string key = fmt::format("tokenizer.ggml.{}_token_id", name);
  const auto id = gguf.GetU64(key);
  if (!id) return fallback < vocab.size() ? fallback : -1;
  if (*id >= vocab.tokens.size()) {
    FailVocabulary(vocab, key, fmt::format("an id below the vocabulary's size {}", vocab.size()),
                   std::to_string(*id));
  }
  return static_cast<int32_t>(*id);
}

void ReadTextBounds(const GgufReader& gguf, const TextBounds& fallback, Vocabulary* vocab) {
  vocab->bos_id = ReadTokenId(gguf, *vocab, "bos", fallback.bos_id);
  vocab->eos_id = ReadTokenId(gguf, *vocab, "eos", fallback.eos_id);
  vocab->eot_id = ReadTokenId(gguf, *vocab, "eot", -1);
  vocab->eom_id = ReadTokenId(gguf, *vocab, "eom", -1);
  vocab->add_bos = gguf.GetBool("tokenizer.ggml.add_bos_token").value_or(fallback.add_bos);
  vocab->add_eos = gguf.GetBool("tokenizer.ggml.add_eos_token").value_or(fallback.add_eos);
  if (gguf.Find(kTypesKey) == nullptr) {
    for (const int32_t id : {vocab->bos_id, vocab->eos_id, vocab->eot_id, vocab->eom_id}) {
      if (id >= 0 && vocab->types[id] == TokenType::kNormal) vocab->types[id] = TokenType::kControl;
    }
  }
  ReadFurtherEnds(gguf, vocab);
  const auto has = [&](std::string_view name) {
    return std::find(vocab->tokens.begin(), vocab->tokens.end(), name) != vocab->tokens.end();
  };
  const bool harmony =
      std::all_of(std::begin(kHarmonyNamesOfEnds), std::end(kHarmonyNamesOfEnds), has);
  const auto is_among = [](const auto& names, const std::string& token) {
    return std::find(std::begin(names), std::end(names), token) != std::end(names);
  };
  for (int32_t id = 0; id < vocab->size(); ++id) {
    const std::string& token = vocab->tokens[id];
    if (vocab->types[id] != TokenType::kControl) continue;
    const bool ends = is_among(kNamesOfEnds, token) && !(harmony && token == kHarmonyEnd);
    if (ends || (harmony && is_among(kHarmonyNamesOfEnds, token))) vocab->ends.push_back(id);
  }
}

}  // namespace thermocline
