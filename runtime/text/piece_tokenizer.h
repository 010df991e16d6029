// What tokenizers of pieces with scores share: a text is cut at control tokens where they are asked
// for, and into words where no piece lies across (merge_boundaries.h), so that time and memory stay
// linear; words that come again are not encoded again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/text/merge_boundaries.h"
#include "runtime/text/vocabulary_tokenizer.h"
#include "runtime/text/word_cache.h"
#include "runtime/text/workspace_pool.h"

namespace thermocline {

class PieceTokenizer : public VocabularyTokenizer {
 protected:
  // What one call at a time uses.
  struct Workspace {
    WordCache cache;
    std::vector<int32_t> ids;  // of one word
    size_t n_bytes = 0;        // that were encoded since the last poll
  };

  // long_word_bytes: longer words are cut at any safe place.
  PieceTokenizer(Vocabulary vocabulary, size_t long_word_bytes);

  // Takes the pieces that words are made of, before the first call.
  void SetBoundaries(MergeBoundaries boundaries) { boundaries_ = std::move(boundaries); }

  // Throws Interrupted between the words of a long text when the user asked to stop. What stands
  // between two control tokens is encoded as a text of its own, with a space in front of it.
  std::vector<int32_t> EncodeText(std::string_view text, bool parse_special) const final;

  // Appends the ids of a text in which no control token counts.
  virtual void EncodePlain(std::string_view text, Workspace& workspace,
                           std::vector<int32_t>* ids) const = 0;
  // Fills workspace.ids with the ids of a word whose spaces are U+2581.
  virtual void EncodeWord(std::string_view word, Workspace& workspace) const = 0;

  // Appends the ids of the words of a text whose spaces are U+2581.
  void EncodeWords(std::string_view text, Workspace& workspace, std::vector<int32_t>* ids) const;
  // Appends an id. Of several unknown ones in a row only the first counts, as sentencepiece has it.
  void Append(int32_t id, std::vector<int32_t>* ids) const;

 private:
  size_t long_word_bytes_;
  MergeBoundaries boundaries_;
  mutable WorkspacePool<Workspace> workspaces_;
};

}  // namespace thermocline
