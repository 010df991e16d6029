#include "runtime/text/unigram_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"
#include "runtime/gguf/gguf_reader.h"
#include "runtime/text/pieces.h"
#include "runtime/text/space_normalizer.h"
#include "runtime/text/utf8.h"
#include "runtime/text/vocabulary_reader.h"

namespace thermocline {
namespace {

constexpr char kCharsmapArrayKey[] = "tokenizer.ggml.precompiled_charsmap";
constexpr double kUnknownPenalty = 10;  // below the least score of a piece, as the library has it
constexpr size_t kCharactersBetweenPolls = size_t{1} << 18;

// The best way to a place in a word.
struct Way {
  double score;
  int32_t last_id;  // of its last piece
  uint32_t from;    // where that begins
};

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

UnigramTokenizer::UnigramTokenizer(UnigramVocabulary unigram)
    : PieceTokenizer(std::move(unigram.vocab), MergeBoundaries::kLongWordBytes),
      char_map_(std::move(unigram.char_map)),
      user_defined_(vocab(), {TokenType::kUserDefined}) {
  std::vector<std::pair<std::string, int32_t>> pieces;
  MergeBoundaries boundaries;
  float least = 0;
  for (int32_t id = 0; id < vocab().size(); ++id) {
    if (vocab().types[id] != TokenType::kNormal) continue;
    least = pieces.empty() ? vocab().scores[id] : std::min(least, vocab().scores[id]);
    pieces.emplace_back(MatchablePiece(vocab(), id), id);
    boundaries.AddPiece(pieces.back().first);
  }
  unknown_score_ = double{least} - kUnknownPenalty;
  boundaries.finish();
  SetBoundaries(std::move(boundaries));
  pieces_ = PieceTrie(std::move(pieces));
}

void UnigramTokenizer::EncodePlain(std::string_view text, Workspace& workspace,
                                   std::vector<int32_t>* ids) const {
  SpaceNormalizer normalizer(vocab(), char_map_);
  std::string normalized;
  const auto flush = [&] {
    EncodeWords(normalized, workspace, ids);
    normalized.clear();
  };
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

void UnigramTokenizer::EncodeWord(std::string_view word, Workspace& workspace) const {
  // To every byte, of which only those that begin a character are used.
  std::vector<Way> ways(word.size() + 1,
                        {-std::numeric_limits<double>::infinity(), vocab().unknown_id, 0});
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

std::string UnigramTokenizer::TokenBytes(int32_t id) const {
  CHECK(id >= 0 && id < vocab().size());
  // Where spaces are not escaped, U+2581 is a character like others.
  const TokenType type = vocab().types[id];
  const bool is_name = type == TokenType::kNormal || type == TokenType::kUserDefined;
  return is_name && !vocab().escape_spaces ? vocab().tokens[id] : PieceBytes(vocab(), id);
}

}  // namespace thermocline
