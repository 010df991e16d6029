// The tokenizer of byte-level BPE vocabularies: those of GPT-2, Llama 3, Qwen and most since.
//
// Special tokens are cut out of a text first, the rest is cut into words (pretokenizer.h), and the
// bytes of each word are joined by the merges (word_merger.h). Every byte is a token, so that any
// text, UTF-8 or not, comes back from its ids. A few vocabularies lack bytes that UTF-8 hardly
// needs: such a byte becomes the unknown token if there is one, and is else left out.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "runtime/text/bpe_vocabulary.h"
#include "runtime/text/pretokenizer.h"
#include "runtime/text/special_tokens.h"
#include "runtime/text/tokenizer.h"

namespace thermocline {

class BpeTokenizer : public Tokenizer {
 public:
  explicit BpeTokenizer(BpeVocabulary bpe);
  ~BpeTokenizer() override;

  int32_t vocab_size() const override { return vocab_.size(); }
  int32_t bos_id() const override { return vocab_.bos_id; }
  int32_t eos_id() const override { return vocab_.eos_id; }
  bool add_bos() const override { return vocab_.add_bos; }
  bool EndsText(int32_t id) const override { return vocab_.EndsText(id); }
  std::optional<SpecialTokens::Match> FindControlToken(std::string_view text) const override {
    return control_.FindFirst(text);
  }
  std::string TokenBytes(int32_t id) const override;
  std::string TokenName(int32_t id) const override;
  bool adds_space_prefix() const override { return false; }

 protected:
  // Throws Interrupted between the words of a long text when the user asked to stop.
  std::vector<int32_t> EncodeText(std::string_view text, bool parse_special) const override;

 private:
  class Workspace;  // what one call at a time uses: memory, and words that were encoded before
  // Takes one that is free or makes one. Calls that run at the same time have one each.
  std::unique_ptr<Workspace> TakeWorkspace() const;
  void ReturnWorkspace(std::unique_ptr<Workspace> workspace) const;

  void EncodeWord(std::string_view word, Workspace& workspace, std::vector<int32_t>* ids) const;
  // Fills workspace.ids with the ids of a word that is not in its cache.
  void MergeBytes(std::string_view word, Workspace& workspace) const;

  Vocabulary vocab_;
  MergeTable merges_;
  Pretokenizer pretokenizer_;
  SpecialTokens user_defined_;  // always cut out of a text
  SpecialTokens control_;
  SpecialTokens all_special_;  // both
  // Where a whole word that is a token is taken as it is: all tokens of text by their names.
  std::unordered_map<std::string_view, int32_t> whole_words_;

  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Workspace>> free_workspaces_;
};

}  // namespace thermocline
