// Constrains a text to a grammar, token by token.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "runtime/grammar/grammar_automaton.h"
#include "runtime/grammar/grammar_stacks.h"
#include "runtime/grammar/grammar_vocabulary.h"
#include "runtime/grammar/mask_cache.h"
#include "runtime/sampling/token_mask.h"

namespace thermocline {

// A grammar made ready for a vocabulary. Many texts may use one at a time, on several threads: what
// one finds out about the vocabulary the others have, too.
class CompiledGrammar {
 public:
  // gbnf: see gbnf_parser.h. Throws Error for a text that is no grammar, for left recursion, for
  // one that is too large or matches no text.
  CompiledGrammar(std::string_view gbnf, std::shared_ptr<const GrammarVocabulary> vocabulary);

  const GrammarAutomaton& automaton() const { return automaton_; }
  const GrammarVocabulary& vocabulary() const { return *vocabulary_; }
  // Sets the bits of the tokens whose bytes may follow in one of the stacks.
  void AddAllowed(std::span<const GrammarStack> stacks, const FramePool& pool,
                  std::span<uint32_t> allowed) const;
  // What is kept of masks.
  MaskCache::Stats mask_stats() const;

 private:
  std::shared_ptr<const GrammarVocabulary> vocabulary_;
  GrammarAutomaton automaton_;
  mutable MaskCache short_masks_;
  mutable MaskCache long_masks_;
};

class GrammarMask : public TokenMask {
 public:
  // ends: the tokens that end a text, allowed where the grammar ends and nowhere else.
  GrammarMask(std::shared_ptr<const CompiledGrammar> grammar, std::vector<int32_t> ends);

  bool constrains() const override { return true; }
  void Fill(std::span<uint32_t> allowed) override;
  bool Allows(int32_t id) override;
  void Accept(int32_t id) override;
  std::unique_ptr<TokenMask> Clone() const override;

  // Whether the text so far is one of the grammar's.
  bool may_end() const { return may_end_; }
  // Goes on by text in place of a token: what a prompt already begins with. Returns whether the
  // grammar has it; else the mask is as before.
  bool AcceptText(std::string_view text);
  size_t n_stacks() const { return stacks_.size(); }

 private:
  // words: as many as the vocabulary needs, all 0.
  void FillWords(std::span<uint32_t> words);
  bool Ends(int32_t id) const;
  // Returns the stacks behind a token, or none.
  std::vector<GrammarStack> StacksBehind(int32_t id, bool* may_end);
  std::vector<GrammarStack> StacksBehindText(std::string_view text, bool* may_end);
  void CompactPool();

  std::shared_ptr<const CompiledGrammar> grammar_;
  std::shared_ptr<const std::vector<int32_t>> ends_;
  FramePool pool_;
  std::vector<GrammarStack> stacks_;  // closed
  bool may_end_ = false;
  bool ended_ = false;
};

}  // namespace thermocline
