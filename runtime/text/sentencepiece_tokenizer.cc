#include "runtime/text/sentencepiece_tokenizer.h"

#include <fmt/format.h>

#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"
#include "runtime/text/sentencepiece_proto.h"
#include "runtime/text/utf8.h"

namespace thermocline {
namespace {

// The longest chunk, as the library counts in 32 bits and makes up to three bytes of one.
constexpr size_t kMaxChunkBytes = size_t{1} << 28;
constexpr size_t kPieceWordsBetweenPolls = 256;

void CheckStatus(const sentencepiece::util::Status& status, const Vocabulary& vocab,
                 const char* what) {
  if (status.ok()) return;
  throw Error({vocab.path, what, "", ReplaceInvalidUtf8(status.ToString()), ""});
}

// Removes extra spaces as the library does it when asked to: none at the ends, one in place of
// several.
std::string WithoutExtraSpaces(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c != ' ' || (!out.empty() && out.back() != ' ')) out += c;
  }
  if (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

}  // namespace

SentencePieceTokenizer::SentencePieceTokenizer(Vocabulary vocabulary, size_t chunk_bytes)
    : VocabularyTokenizer(std::move(vocabulary)), chunk_bytes_(chunk_bytes) {
  // The space in front of a text and the removal of extra ones are done in Encode(), which hands
  // the library one part of a text at a time.
  const std::string proto = SentencepieceModelProto(vocab(), NormalizerOptions{});
  try {
    CheckStatus(processor_.LoadFromSerializedProto(proto), vocab(),
                "sentencepiece does not accept the vocabulary");
  } catch (const Error&) {
    throw;
  } catch (const std::exception& e) {
    throw Error({vocab().path, "sentencepiece does not accept the vocabulary", "", e.what(), ""});
  }
  for (int32_t id = 0; id < vocab().size(); ++id) {
    boundaries_.AddPiece(MatchablePiece(vocab(), id));
  }
  boundaries_.finish();
}

std::vector<int32_t> SentencePieceTokenizer::EncodeText(std::string_view text,
                                                        bool parse_special) const {
  std::vector<int32_t> ids;
  std::unique_ptr<WordCache> cache = caches_.Take();
  while (const auto match = parse_special ? control_tokens().FindFirst(text) : std::nullopt) {
    if (match->begin > 0) EncodePlain(text.substr(0, match->begin), *cache, &ids);
    ids.push_back(match->id);
    text.remove_prefix(match->begin + match->n_bytes);
  }
  EncodePlain(text, *cache, &ids);
  caches_.Return(std::move(cache));
  return ids;
}

void SentencePieceTokenizer::EncodePlain(std::string_view text, WordCache& cache,
                                         std::vector<int32_t>* ids) const {
  std::string cleaned;
  if (vocab().remove_extra_spaces) {
    cleaned = WithoutExtraSpaces(text);
    text = cleaned;
  }
  bool at_start = true;
  while (!text.empty()) {
    const size_t n_bytes = ValidUtf8Prefix(text);
    std::string escaped(at_start && vocab().add_space_prefix ? kSpaceSign : "");
    at_start = false;
    escaped += EscapeSpaces(text.substr(0, n_bytes));
    EncodeWords(escaped, cache, ids);
    text.remove_prefix(n_bytes);
    while (!text.empty() && FirstUtf8Char(text).status != Utf8Status::kValid) {
      append(vocab().has_byte_tokens ? vocab().byte_ids[static_cast<uint8_t>(text[0])]
                                     : vocab().unknown_id,
             ids);
      text.remove_prefix(1);
    }
  }
}

void SentencePieceTokenizer::EncodeWords(std::string_view text, WordCache& cache,
                                         std::vector<int32_t>* ids) const {
  std::vector<int> made;
  for (size_t n_words = 1; !text.empty(); ++n_words) {
    if (n_words % kPieceWordsBetweenPolls == 0) ThrowIfInterrupted();
    const std::string_view word = text.substr(0, boundaries_.FirstWord(text, chunk_bytes_));
    if (word.size() > kMaxChunkBytes) {
      throw Error({vocab().path, "text that this vocabulary cannot cut into parts",
                   fmt::format("at most {} bytes", kMaxChunkBytes),
                   fmt::format("{} bytes", word.size()), ""});
    }
    std::span<const int32_t> word_ids = cache.Find(word);
    if (word_ids.empty()) {
      CheckStatus(processor_.Encode(word, &made), vocab(), "sentencepiece cannot encode a text");
      cache.Store(word, made);
      word_ids = made;
    }
    for (const int32_t id : word_ids) append(id, ids);
    text.remove_prefix(word.size());
  }
}

// Appends an id. The library makes one unknown token of a run of unknown characters, wherever we
// cut it.
void SentencePieceTokenizer::append(int32_t id, std::vector<int32_t>* ids) const {
  const bool continues_unknown =
      id == vocab().unknown_id && !ids->empty() && ids->back() == vocab().unknown_id;
  if (!continues_unknown) ids->push_back(id);
}

}  // namespace thermocline
