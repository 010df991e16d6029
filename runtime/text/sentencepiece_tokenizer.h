// The tokenizer of llama-like vocabularies, on the sentencepiece library.
//
// The library sees valid UTF-8 word by word: a text is cut where nothing can be joined across
// (merge_boundaries.h), so that time and memory stay linear and the ids are those of one call, and
// words that come again are not encoded again. Bytes that are not UTF-8 become byte tokens one by
// one, so that decoding gives them back.
#pragma once

#include <sentencepiece_processor.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/text/merge_boundaries.h"
#include "runtime/text/pieces.h"
#include "runtime/text/vocabulary.h"
#include "runtime/text/vocabulary_tokenizer.h"
#include "runtime/text/word_cache.h"
#include "runtime/text/workspace_pool.h"

namespace thermocline {

class SentencePieceTokenizer : public VocabularyTokenizer {
 public:
  // Where a text has no spaces, parts of about this size are the fastest.
  static constexpr size_t kDefaultChunkBytes = 512;

  // Throws Error when the library does not accept the vocabulary.
  explicit SentencePieceTokenizer(Vocabulary vocabulary, size_t chunk_bytes = kDefaultChunkBytes);

  std::string TokenBytes(int32_t id) const override { return PieceBytes(vocab(), id); }

 protected:
  // Throws Interrupted between the pieces of a long text when the user asked to stop. What stands
  // between two special tokens is encoded as a text of its own, with a space in front of it.
  std::vector<int32_t> EncodeText(std::string_view text, bool parse_special) const override;

 private:
  void EncodePlain(std::string_view text, WordCache& cache, std::vector<int32_t>* ids) const;
  // Encodes text whose spaces are U+2581. REQUIRES: it is valid UTF-8.
  void EncodeWords(std::string_view text, WordCache& cache, std::vector<int32_t>* ids) const;
  void append(int32_t id, std::vector<int32_t>* ids) const;

  size_t chunk_bytes_;
  MergeBoundaries boundaries_;
  mutable WorkspacePool<WordCache> caches_;
  sentencepiece::SentencePieceProcessor processor_;
};

}  // namespace thermocline
