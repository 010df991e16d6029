#include "runtime/text/vocabulary.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/gguf/gguf_reader.h"
#include "runtime/text/vocabulary_reader.h"

namespace thermocline {
namespace {

constexpr char kScoresKey[] = "tokenizer.ggml.scores";
constexpr char kEscapeSpacesKey[] = "tokenizer.ggml.escape_whitespaces";
constexpr char kSpaceAsSuffixKey[] = "tokenizer.ggml.treat_whitespace_as_suffix";

void ReadScores(const GgufReader& gguf, Vocabulary* vocab) {
  const GgufValue* value = gguf.Find(kScoresKey);
  if (value == nullptr)
    FailVocabulary(*vocab, fmt::format("key {} is missing", kScoresKey), "", "");
  const auto* scores = ArrayOf<double>(*value);
  if (scores == nullptr) {
    FailVocabulary(*vocab, fmt::format("type of {}", kScoresKey), "an array of floats",
                   "another type");
  }
  if (scores->size() != vocab->tokens.size()) {
    FailVocabulary(*vocab, fmt::format("length of {}", kScoresKey),
                   fmt::format("one per token ({})", vocab->tokens.size()),
                   std::to_string(scores->size()));
  }
  vocab->scores.reserve(scores->size());
  for (size_t id = 0; id < scores->size(); ++id) {
    const double score = (*scores)[id];
    if (!(std::abs(score) <= std::numeric_limits<float>::max())) {
      FailVocabulary(*vocab, fmt::format("score of token {}", id), "a finite number",
                     fmt::format("{}", score));
    }
    vocab->scores.push_back(static_cast<float>(score));
  }
}

// Settles the one unknown token that the library wants. Files that type none, or type several, mean
// the one that unknown_token_id names.
void SettleUnknown(const GgufReader& gguf, int32_t fallback, Vocabulary* vocab) {
  const int32_t named =
      std::max(0, ReadTokenId(gguf, *vocab, "unknown", fallback));  // at least one token is there
  const auto first = std::find(vocab->types.begin(), vocab->types.end(), TokenType::kUnknown);
  const bool named_is_typed = vocab->types[named] == TokenType::kUnknown;
  vocab->unknown_id = named_is_typed || first == vocab->types.end()
                          ? named
                          : static_cast<int32_t>(first - vocab->types.begin());
  std::replace(vocab->types.begin(), vocab->types.end(), TokenType::kUnknown, TokenType::kControl);
  if (vocab->types[vocab->unknown_id] == TokenType::kByte) {
    FailVocabulary(*vocab, "unknown token", "a token that is not a byte",
                   fmt::format("{}, which is {}", vocab->unknown_id,
                               QuotedToken(vocab->tokens[vocab->unknown_id])));
  }
  vocab->types[vocab->unknown_id] = TokenType::kUnknown;
}

// Reads what all vocabularies of pieces with scores have.
Vocabulary ReadScoredPieces(const GgufReader& gguf, const TextBounds& bounds, int32_t unknown_id) {
  Vocabulary vocab = ReadTokensAndTypes(gguf);
  ReadScores(gguf, &vocab);
  SettleByteTokens(&vocab);
  SettleUnknown(gguf, unknown_id, &vocab);
  ReadTextBounds(gguf, bounds, &vocab);
  vocab.add_space_prefix = gguf.GetBool("tokenizer.ggml.add_space_prefix").value_or(true);
  vocab.remove_extra_spaces =
      gguf.GetBool("tokenizer.ggml.remove_extra_whitespaces").value_or(false);
  vocab.escape_spaces = gguf.GetBool(kEscapeSpacesKey).value_or(true);
  vocab.space_as_suffix = gguf.GetBool(kSpaceAsSuffixKey).value_or(false);
  return vocab;
}

}  // namespace

bool Vocabulary::EndsText(int32_t id) const {
  if (id < 0) return false;
  return id == eos_id || id == eot_id || id == eom_id ||
         std::find(ends.begin(), ends.end(), id) != ends.end();
}

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

void SettleByteTokens(Vocabulary* vocab) {
  vocab->byte_ids.fill(-1);
  const bool typed =
      std::find(vocab->types.begin(), vocab->types.end(), TokenType::kByte) != vocab->types.end();
  int n_found = 0;
  for (int32_t id = 0; id < vocab->size(); ++id) {
    if (typed && vocab->types[id] != TokenType::kByte) continue;
    const int byte = ByteOfTokenName(vocab->tokens[id]);
    if (byte < 0 && !typed) continue;
    if (byte < 0) {
      FailVocabulary(*vocab, fmt::format("name of byte token {}", id), "<0x00> to <0xFF>",
                     QuotedToken(vocab->tokens[id]));
    }
    vocab->byte_ids[byte] = id;
    ++n_found;
  }
  if (typed && n_found != 256) {
    const auto gap = std::find(vocab->byte_ids.begin(), vocab->byte_ids.end(), -1);
    FailVocabulary(*vocab, "byte tokens", "all 256 or none",
                   fmt::format("{}, without <0x{:02X}>", n_found, gap - vocab->byte_ids.begin()));
  }
  vocab->has_byte_tokens = n_found == 256;
  if (!vocab->has_byte_tokens) {
    vocab->byte_ids.fill(-1);
    return;
  }
  for (const int32_t id : vocab->byte_ids) vocab->types[id] = TokenType::kByte;
}

Vocabulary ReadSentencepieceVocabulary(const GgufReader& gguf) {
  Vocabulary vocab =
      ReadScoredPieces(gguf, {.bos_id = 1, .eos_id = 2, .add_bos = true}, /*unknown_id=*/0);
  if (!vocab.escape_spaces || vocab.space_as_suffix) {
    FailVocabulary(vocab, fmt::format("{} or {}", kEscapeSpacesKey, kSpaceAsSuffixKey),
                   "what SentencePiece BPE is used with: true, false", "another value");
  }
  return vocab;
}

Vocabulary ReadUnigramVocabulary(const GgufReader& gguf) {
  return ReadScoredPieces(gguf, {.eos_id = 1, .add_eos = true}, /*unknown_id=*/2);
}

}  // namespace thermocline
