// The tokenizer of unigram vocabularies (Kudo, arXiv:1804.10959), those of T5 and XLM-R.
//
// A text is normalised (space_normalizer.h) and cut where no piece lies across
// (merge_boundaries.h). Each word then becomes those pieces whose scores, logarithms of
// probabilities, have the largest sum. A character that is no piece costs more than any, and
// becomes the tokens of its bytes or, where the vocabulary has none, the unknown token, once for
// several in a row. User-defined tokens are cut out before and are not normalised.
//
// With byte tokens, bytes that are no UTF-8 come back from their ids. What the normaliser changes
// does not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/text/char_map.h"
#include "runtime/text/merge_boundaries.h"
#include "runtime/text/piece_trie.h"
#include "runtime/text/special_tokens.h"
#include "runtime/text/vocabulary_tokenizer.h"
#include "runtime/text/workspace_pool.h"

namespace thermocline {

class GgufReader;
class SpaceNormalizer;

struct UnigramVocabulary {
  Vocabulary vocab;
  CharMap char_map;
};

// Reads the vocabulary as ReadUnigramVocabulary() does, and the normaliser where there is one.
UnigramVocabulary ReadUnigram(const GgufReader& gguf);

class UnigramTokenizer : public VocabularyTokenizer {
 public:
  explicit UnigramTokenizer(UnigramVocabulary unigram);
  ~UnigramTokenizer() override;

  std::string TokenBytes(int32_t id) const override;
  bool adds_space_prefix() const override {
    return vocab().add_space_prefix && !vocab().space_as_suffix;
  }

 protected:
  // Throws Interrupted between the words of a long text when the user asked to stop. What stands
  // between two control tokens is encoded as a text of its own.
  std::vector<int32_t> EncodeText(std::string_view text, bool parse_special) const override;

 private:
  class Workspace;  // what one call at a time uses: memory, and words that were encoded before

  void EncodePlain(std::string_view text, Workspace& workspace, std::vector<int32_t>* ids) const;
  // Encodes text that has been normalised.
  void EncodeWords(std::string_view text, Workspace& workspace, std::vector<int32_t>* ids) const;
  // Fills workspace.ids with the ids of a word that is not in its cache.
  void FindBest(std::string_view word, Workspace& workspace) const;
  // Appends an id. Of several unknown ones in a row only the first counts.
  void Append(int32_t id, std::vector<int32_t>* ids) const;

  CharMap char_map_;
  SpecialTokens user_defined_;
  PieceTrie pieces_;
  MergeBoundaries boundaries_;
  double unknown_score_ = 0;

  mutable WorkspacePool<Workspace> workspaces_;
};

}  // namespace thermocline
