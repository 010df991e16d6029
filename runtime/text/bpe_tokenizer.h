// The tokenizer of BPE vocabularies that come with their merges.
//
// Those of GPT-2, Llama 3, Qwen and most since are byte-level. Special tokens are cut out of a text
// first, the rest is cut into words (pretokenizer.h), and the bytes of each word are joined by the
// merges (word_merger.h). Every byte is a token, so that any text, UTF-8 or not, comes back from
// its ids; where the tokenizer puts texts into a form of Unicode's first (unicode_form.h), so put.
// A few vocabularies lack bytes that UTF-8 hardly needs: such a byte becomes the unknown
// token if there is one, and is else left out.
//
// Gemma 4's and its kin are SentencePiece's in that text is plain, with U+2581 for a space, and
// that a character without a token becomes the tokens of its bytes. Words are then what lies
// between line ends, cut where no merge joins (merge_boundaries.h).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "runtime/text/bpe_vocabulary.h"
#include "runtime/text/merge_boundaries.h"
#include "runtime/text/pretokenizer.h"
#include "runtime/text/special_tokens.h"
#include "runtime/text/vocabulary_tokenizer.h"
#include "runtime/text/workspace_pool.h"

namespace thermocline {

class BpeTokenizer : public VocabularyTokenizer {
 public:
  explicit BpeTokenizer(BpeVocabulary bpe);
  ~BpeTokenizer() override;

  std::string TokenBytes(int32_t id) const override;

 protected:
  // Throws Interrupted between the words of a long text when the user asked to stop.
  std::vector<int32_t> EncodeText(std::string_view text, bool parse_special) const override;

 private:
  class Workspace;  // what one call at a time uses: memory, and words that were encoded before
  using Emit = Pretokenizer::Emit;

  // Calls `emit` with the words of a text without special tokens.
  void SplitWords(std::string_view text, const Emit& emit) const;
  void EncodeWord(std::string_view word, Workspace& workspace, std::vector<int32_t>* ids) const;
  // Fills workspace.ids with the ids of a word that is not in its cache.
  void MergeWord(std::string_view word, Workspace& workspace) const;
  // Returns the id of a word that is taken as it is, or -1.
  int32_t WholeWord(std::string_view word) const;
  // Appends what the merges of a word begin with: its bytes, or its characters.
  void AppendSymbols(std::string_view word, std::vector<int32_t>* ids) const;

  bool byte_level_;
  UnicodeForm form_;
  MergeTable merges_;
  Pretokenizer pretokenizer_;
  SpecialTokens user_defined_;  // always cut out of a text
  SpecialTokens all_special_;   // with control tokens
  bool ignore_merges_;
  // Tokens of text by their names, where they are asked for: without byte level, or where a whole
  // word that is a token is taken as it is.
  std::unordered_map<std::string_view, int32_t> ids_by_name_;
  MergeBoundaries boundaries_;  // without byte level

  mutable WorkspacePool<Workspace> workspaces_;
};

}  // namespace thermocline
