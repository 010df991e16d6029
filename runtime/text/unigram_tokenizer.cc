#include "runtime/text/unigram_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <span>
#include <utility>

#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"
#include "runtime/gguf/gguf_reader.h"
#include "runtime/text/pieces.h"
#include "runtime/text/space_normalizer.h"
#include "runtime/text/utf8.h"
#include "runtime/text/vocabulary_reader.h"
#include "runtime/text/word_cache.h"

namespace thermocline {
namespace {

constexpr char kCharsmapArrayKey[] = "tokenizer.ggml.precompiled_charsmap";
constexpr double kUnknownPenalty = 10;  // below the least score of a piece, as the library has it
constexpr size_t kBytesBetweenPolls = size_t{1} << 17;
constexpr size_t kCharactersBetweenPolls = size_t{1} << 18;
// The longest word that cannot be cut, for which 16 bytes of memory are taken per byte.
constexpr size_t kMaxUnigramWordBytes = size_t{1} << 28;

// The bytes of an array of i8 or u8.
template <typename T>
std::string BytesOf(const std::vector<T>& values) {
  std::string bytes;
  bytes.reserve(values.size());
  for (const T value : values) bytes += static_cast<char>(value);
  return bytes;
}

CharMap ReadCharMap(const GgufReader& gguf) {
  const GgufValue* value = gguf.Find(kCharsmapArrayKey);
  if (value == nullptr) return {};
  const bool is_bytes = value->type == GgufType::kArray && (value->element_type == GgufType::kU8 ||
                                                            value->element_type == GgufType::kI8);
  if (is_bytes) {
    if (const auto* as_signed = ArrayOf<int64_t>(*value)) {
      return as_signed->empty() ? CharMap() : CharMap(gguf.path(), BytesOf(*as_signed));
    }
    if (const auto* as_unsigned = ArrayOf<uint64_t>(*value)) {
      return as_unsigned->empty() ? CharMap() : CharMap(gguf.path(), BytesOf(*as_unsigned));
    }
  }
  throw Error({gguf.path(), fmt::format("type of {}", kCharsmapArrayKey), "an array of bytes",
               "another type", ""});
}

}  // namespace

UnigramVocabulary ReadUnigram(const GgufReader& gguf) {
  return {ReadUnigramVocabulary(gguf), ReadCharMap(gguf)};
}

class UnigramTokenizer::Workspace {
 public:
  // The best way to a place in a word.
  struct Way {
    double score;
    int32_t last_id;  // of its last piece
    uint32_t from;    // where that begins
  };
  WordCache cache;
  std::vector<Way> ways;  // to every byte, of which only those that begin a character are used
  std::vector<int32_t> ids;
  std::string normalized;
  size_t n_bytes = 0;  // that were encoded since the last poll
};

UnigramTokenizer::UnigramTokenizer(UnigramVocabulary unigram)
    : VocabularyTokenizer(std::move(unigram.vocab)),
      char_map_(std::move(unigram.char_map)),
      user_defined_(vocab(), {TokenType::kUserDefined}) {
  std::vector<std::pair<std::string, int32_t>> pieces;
  float least = 0;
  for (int32_t id = 0; id < vocab().size(); ++id) {
    if (vocab().types[id] != TokenType::kNormal) continue;
    least = pieces.empty() ? vocab().scores[id] : std::min(least, vocab().scores[id]);
    pieces.emplace_back(MatchablePiece(vocab(), id), id);
    boundaries_.AddPiece(pieces.back().first);
  }
  unknown_score_ = double{least} - kUnknownPenalty;
  boundaries_.finish();
  pieces_ = PieceTrie(std::move(pieces));
}

UnigramTokenizer::~UnigramTokenizer() = default;

std::vector<int32_t> UnigramTokenizer::EncodeText(std::string_view text, bool parse_special) const {
  std::unique_ptr<Workspace> workspace = workspaces_.Take();
  std::vector<int32_t> ids;
  while (const auto match = parse_special ? control_tokens().FindFirst(text) : std::nullopt) {
    EncodePlain(text.substr(0, match->begin), *workspace, &ids);
    ids.push_back(match->id);
    text.remove_prefix(match->begin + match->n_bytes);
  }
  EncodePlain(text, *workspace, &ids);
  workspaces_.Return(std::move(workspace));
  return ids;
}

void UnigramTokenizer::EncodePlain(std::string_view text, Workspace& workspace,
                                   std::vector<int32_t>* ids) const {
  SpaceNormalizer normalizer(vocab(), char_map_);
  std::string& normalized = workspace.normalized;
  const auto flush = [&] {
    EncodeWords(normalized, workspace, ids);
    normalized.clear();
  };
  normalized.clear();
  while (!text.empty()) {
    const auto match = user_defined_.FindFirst(text);
    normalizer.Append(text.substr(0, match ? match->begin : text.npos), &normalized);
    if (!match) break;
    normalizer.BeforeToken(&normalized);
    flush();
    ids->push_back(match->id);
    text.remove_prefix(match->begin + match->n_bytes);
  }
  normalizer.Finish(&normalized);
  flush();
}

void UnigramTokenizer::EncodeWords(std::string_view text, Workspace& workspace,
                                   std::vector<int32_t>* ids) const {
  while (!text.empty()) {
    const std::string_view word = text.substr(0, boundaries_.FirstWord(text));
    workspace.n_bytes += word.size();
    if (workspace.n_bytes >= kBytesBetweenPolls) {
      ThrowIfInterrupted();
      workspace.n_bytes = 0;
    }
    std::span<const int32_t> word_ids = workspace.cache.Find(word);
    if (word_ids.empty()) {
      FindBest(word, workspace);
      workspace.cache.Store(word, workspace.ids);
      word_ids = workspace.ids;
    }
    for (const int32_t id : word_ids) Append(id, ids);
    text.remove_prefix(word.size());
  }
}

void UnigramTokenizer::FindBest(std::string_view word, Workspace& workspace) const {
  if (word.size() > kMaxUnigramWordBytes) {
    throw Error({vocab().path, "text that this vocabulary cannot cut into parts",
                 fmt::format("at most {} bytes", kMaxUnigramWordBytes),
                 fmt::format("{} bytes", word.size()), ""});
  }
  auto& ways = workspace.ways;
  ways.assign(word.size() + 1, {-std::numeric_limits<double>::infinity(), vocab().unknown_id, 0});
  ways[0].score = 0;
  size_t n_characters = 0;
  for (size_t begin = 0; begin < word.size();) {
    if (++n_characters % kCharactersBetweenPolls == 0) ThrowIfInterrupted();
    const size_t next = begin + FirstUtf8Char(word.substr(begin)).n_bytes;
    const auto offer = [&](size_t end, int32_t id, double score) {
      score += ways[begin].score;
      if (score > ways[end].score) ways[end] = {score, id, static_cast<uint32_t>(begin)};
    };
    bool is_piece = false;  // the character by itself
    PieceTrie::Node node = PieceTrie::kRoot;
    for (size_t end = begin; end < word.size();) {
      node = pieces_.Child(node, static_cast<uint8_t>(word[end++]));
      if (node == PieceTrie::kNone) break;
      const int32_t id = pieces_.IdAt(node);
      if (id < 0) continue;
      offer(end, id, vocab().scores[id]);
      is_piece = is_piece || end == next;
    }
    if (!is_piece) offer(next, vocab().unknown_id, unknown_score_);
    begin = next;
  }
  // Back along the best way. An unknown character's bytes go in backwards like all else.
  std::vector<int32_t>& ids = workspace.ids;
  ids.clear();
  for (size_t end = word.size(); end > 0; end = ways[end].from) {
    const int32_t id = ways[end].last_id;
    if (id != vocab().unknown_id || !vocab().has_byte_tokens) {
      Append(id, &ids);
      continue;
    }
    for (size_t at = end; at > ways[end].from; --at) {
      ids.push_back(vocab().byte_ids[static_cast<uint8_t>(word[at - 1])]);
    }
  }
  std::reverse(ids.begin(), ids.end());
}

void UnigramTokenizer::Append(int32_t id, std::vector<int32_t>* ids) const {
  const bool continues_unknown =
      id == vocab().unknown_id && !ids->empty() && ids->back() == vocab().unknown_id;
  if (!continues_unknown) ids->push_back(id);
}

std::string UnigramTokenizer::TokenBytes(int32_t id) const {
  CHECK(id >= 0 && id < vocab().size());
  // Where spaces are not escaped, U+2581 is a character like others.
  const TokenType type = vocab().types[id];
  const bool is_name = type == TokenType::kNormal || type == TokenType::kUserDefined;
  return is_name && !vocab().escape_spaces ? vocab().tokens[id] : PieceBytes(vocab(), id);
}

}  // namespace thermocline
