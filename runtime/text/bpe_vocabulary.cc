#include "runtime/text/bpe_vocabulary.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "runtime/core/error.h"
#include "runtime/gguf/gguf_reader.h"
#include "runtime/text/byte_level.h"
#include "runtime/text/utf8.h"
#include "runtime/text/vocabulary_reader.h"

namespace thermocline {
namespace {

constexpr char kMergesKey[] = "tokenizer.ggml.merges";
constexpr char kModelKey[] = "tokenizer.ggml.model";
constexpr std::string_view kGemma4 = "gemma4";  // a kind of tokenizer and a pre-tokenizer
constexpr char kPretokenizerKey[] = "tokenizer.ggml.pre";
constexpr size_t kMaxMerges = size_t{1} << 26;

using TokenIds = std::unordered_map<std::string_view, int32_t>;

TokenIds IdsOfTextTokens(const Vocabulary& vocab, bool plain_pieces) {
  TokenIds ids;
  ids.reserve(vocab.tokens.size());
  for (int32_t id = 0; id < vocab.size(); ++id) {
    if (IsTextToken(vocab, id, plain_pieces)) ids.emplace(vocab.tokens[id], id);
  }
  return ids;
}

int32_t Lookup(const TokenIds& ids, std::string_view name) {
  const auto found = ids.find(name);
  return found == ids.end() ? -1 : found->second;
}

void ReadMerges(const GgufReader& gguf, const TokenIds& ids, BpeVocabulary* bpe) {
  const auto* lines = gguf.GetStrings(kMergesKey);
  if (lines == nullptr) {
    FailVocabulary(bpe->vocab, fmt::format("key {} is missing", kMergesKey), "", "");
  }
  if (lines->size() > kMaxMerges) {
    FailVocabulary(bpe->vocab, fmt::format("length of {}", kMergesKey),
                   fmt::format("at most {}", kMaxMerges), std::to_string(lines->size()));
  }
  std::string joined;
  for (size_t i = 0; i < lines->size(); ++i) {
    const std::string_view line = (*lines)[i];
    // A part is never empty, and no name of text holds a space; one at the front is part of a name.
    const size_t space = line.find(' ', 1);
    if (space == std::string_view::npos || space + 1 == line.size()) {
      FailVocabulary(bpe->vocab, fmt::format("merge {}", i), "two tokens with a space between them",
                     QuotedToken((*lines)[i]));
    }
    const std::string_view left = line.substr(0, space);
    const std::string_view right = line.substr(space + 1);
    joined.assign(left).append(right);
    const BpeMerge merge{Lookup(ids, left), Lookup(ids, right), Lookup(ids, joined)};
    if (merge.left >= 0 && merge.right >= 0 && merge.result >= 0) bpe->merges.push_back(merge);
  }
}

void FindBytes(const TokenIds& ids, Vocabulary* vocab) {
  for (int byte = 0; byte < 256; ++byte) {
    vocab->byte_ids[byte] = Lookup(ids, ByteLevelChar(static_cast<uint8_t>(byte)));
  }
  const auto has_none = [](int32_t id) { return id < 0; };
  if (std::all_of(vocab->byte_ids.begin(), vocab->byte_ids.end(), has_none)) {
    FailVocabulary(*vocab, "tokens of single bytes", "those of a byte-level vocabulary", "none");
  }
}

PretokenizerInfo ReadPretokenizer(const GgufReader& gguf) {
  // A file whose kind is Gemma 4's is cut as Gemma 4's, whatever else it says.
  const bool is_gemma4 = gguf.GetString(kModelKey) == kGemma4;
  const std::string name =
      is_gemma4 ? std::string(kGemma4)
                : gguf.GetString(kPretokenizerKey).value_or(std::string(kDefaultPretokenizer));
  auto info = FindPretokenizer(name.empty() ? kDefaultPretokenizer : std::string_view(name));
  if (info) return std::move(*info);
  throw Error({gguf.path(), fmt::format("pre-tokenizer ({})", kPretokenizerKey),
               fmt::format("one of the {} that are known (gpt-2, llama-bpe, qwen2, ...)",
                           PretokenizerNames().size()),
               QuotedToken(name),
               "another way to cut texts into words would garble them; a file without the key is "
               "cut as GPT-2's"});
}

}  // namespace

bool IsTextToken(const Vocabulary& vocab, int32_t id, bool plain_pieces) {
  const TokenType type = vocab.types[id];
  return type == TokenType::kNormal || (type == TokenType::kByte && !plain_pieces);
}

BpeVocabulary ReadBpeVocabulary(const GgufReader& gguf) {
  BpeVocabulary bpe;
  bpe.vocab = ReadTokensAndTypes(gguf);
  bpe.pretokenizer = ReadPretokenizer(gguf);
  if (const auto name = gguf.GetString(kNormalizerKey)) {
    const auto form = FindUnicodeForm(*name);
    if (!form) {
      FailVocabulary(bpe.vocab, fmt::format("key {}", kNormalizerKey),
                     "none, NFC, NFD, NFKC or NFKD", QuotedToken(*name));
    }
    bpe.pretokenizer.form = *form;
  }
  ReadTextBounds(gguf, {.add_bos = bpe.pretokenizer.add_bos}, &bpe.vocab);
  bpe.vocab.add_space_prefix = false;
  // Many files name their end of text as the unknown token: what encodes to it must be typed so.
  bpe.vocab.unknown_id = ReadTokenId(gguf, bpe.vocab, "unknown", -1);
  if (bpe.vocab.unknown_id >= 0 && bpe.vocab.types[bpe.vocab.unknown_id] != TokenType::kUnknown) {
    bpe.vocab.unknown_id = -1;
  }
  const bool plain_pieces = bpe.pretokenizer.plain_pieces;
  // The first files of Gemma 4 deny BOS, without which the model writes nonsense.
  if (plain_pieces && bpe.pretokenizer.add_bos) bpe.vocab.add_bos = true;
  if (plain_pieces) SettleByteTokens(&bpe.vocab);
  const TokenIds ids = IdsOfTextTokens(bpe.vocab, plain_pieces);
  if (!plain_pieces) FindBytes(ids, &bpe.vocab);
  ReadMerges(gguf, ids, &bpe);
  return bpe;
}

}  // namespace thermocline
