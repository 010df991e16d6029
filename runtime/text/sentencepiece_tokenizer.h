// The tokenizer of llama-like vocabularies, on the sentencepiece library.
//
// The library sees valid UTF-8 word by word (piece_tokenizer.h), and the ids are those of one call.
// Bytes that are not UTF-8 become byte tokens one by one, so that decoding gives them back.
#pragma once

#include <sentencepiece_processor.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/text/piece_tokenizer.h"
#include "runtime/text/pieces.h"
#include "runtime/text/vocabulary.h"

namespace thermocline {

class SentencePieceTokenizer : public PieceTokenizer {
 public:
  // Where a text has no spaces, parts of about this size are the fastest.
  static constexpr size_t kDefaultChunkBytes = 512;

  // Throws Error when the library does not accept the vocabulary.
  explicit SentencePieceTokenizer(Vocabulary vocabulary, size_t chunk_bytes = kDefaultChunkBytes);

  std::string TokenBytes(int32_t id) const override { return PieceBytes(vocab(), id); }

 private:
  void EncodePlain(std::string_view text, Workspace& workspace,
                   std::vector<int32_t>* ids) const override;
  void EncodeWord(std::string_view word, Workspace& workspace) const override;

  sentencepiece::SentencePieceProcessor processor_;
};

}  // namespace thermocline
