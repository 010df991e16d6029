// Which tokens may follow in a state of a grammar. Most of them depend on the state alone
// (XGrammar, arXiv:2411.15100): they are found by one walk over the vocabulary's trie and kept.
// Where a token can end the state's rule and go on in what called it, the state to come back to
// decides, and maybe the one below that; what those allow is kept beside it, as deep as it was
// asked for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "runtime/grammar/grammar_automaton.h"
#include "runtime/grammar/grammar_stacks.h"
#include "runtime/grammar/grammar_vocabulary.h"

namespace thermocline {

// May be used by several threads.
class MaskCache {
 public:
  // Both must outlive the cache.
  MaskCache(const GrammarAutomaton& automaton, const GrammarVocabulary& vocabulary)
      : automaton_(automaton), vocabulary_(vocabulary) {}

  // Sets the bits of the tokens whose bytes may follow in one of the stacks, which must be closed
  // (StackStepper::Close). allowed: a bit per token, see TokenMask::Fill.
  void AddAllowed(std::span<const GrammarStack> stacks, const FramePool& pool,
                  std::span<uint32_t> allowed);

  struct Stats {
    size_t n_contexts = 0;
    size_t kept_bytes = 0;
    size_t n_walks = 0;
  };
  Stats stats() const;

 private:
  // What may follow where the states from the top of a stack on are known, as many as the context
  // is deep.
  struct Context {
    std::vector<int32_t> tokens;   // that the context before this one does not allow
    std::vector<uint32_t> bits;    // in their place, where they are many
    std::vector<uint32_t> leaves;  // nodes of the trie at which the known states are left behind
    std::unordered_map<uint32_t, std::unique_ptr<Context>> below;  // by the next one's class
  };
  class Walk;

  const Context& Find(GrammarStack stack, const FramePool& pool, std::span<uint32_t> allowed);
  std::unique_ptr<Context> MakeTop(GrammarAutomaton::State state);
  std::unique_ptr<Context> MakeBelow(GrammarAutomaton::State state,
                                     std::span<const uint32_t> leaves);
  std::unique_ptr<Context> Keep(Walk& walk);
  void AddByWalk(GrammarStack stack, const FramePool& pool, std::span<uint32_t> allowed);
  static void Add(const Context& context, std::span<uint32_t> allowed);

  const GrammarAutomaton& automaton_;
  const GrammarVocabulary& vocabulary_;
  mutable std::mutex mutex_;
  std::unordered_map<uint32_t, std::unique_ptr<Context>> top_;  // by the state's class
  Stats stats_;
};

}  // namespace thermocline
