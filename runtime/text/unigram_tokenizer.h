// The tokenizer of unigram vocabularies (Kudo, arXiv:1804.10959), those of T5 and XLM-R.
//
// A text is normalised (space_normalizer.h) and cut into words (piece_tokenizer.h). Each word then
// becomes those pieces whose scores, logarithms of probabilities, have the largest sum. A character
// that is no piece costs more than any, and becomes the tokens of its bytes or, where the
// vocabulary has none, the unknown token, once for several in a row. User-defined tokens are cut
// out before and are not normalised.
//
// With byte tokens, bytes that are no UTF-8 come back from their ids. What the normaliser changes
// does not.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/text/char_map.h"
#include "runtime/text/piece_tokenizer.h"
#include "runtime/text/piece_trie.h"
#include "runtime/text/special_tokens.h"
#include "runtime/text/vocabulary.h"

namespace thermocline {

class GgufReader;

struct UnigramVocabulary {
  Vocabulary vocab;
  CharMap char_map;
};

// Reads the vocabulary as ReadUnigramVocabulary() does, and the normaliser where there is one.
UnigramVocabulary ReadUnigram(const GgufReader& gguf);

class UnigramTokenizer : public PieceTokenizer {
 public:
  explicit UnigramTokenizer(UnigramVocabulary unigram);

  std::string TokenBytes(int32_t id) const override;
  bool adds_space_prefix() const override {
    return vocab().add_space_prefix && !vocab().space_as_suffix;
  }

 private:
  void EncodePlain(std::string_view text, Workspace& workspace,
                   std::vector<int32_t>* ids) const override;
  void EncodeWord(std::string_view word, Workspace& workspace) const override;

  CharMap char_map_;
  SpecialTokens user_defined_;
  PieceTrie pieces_;
  double unknown_score_ = 0;
};

}  // namespace thermocline
