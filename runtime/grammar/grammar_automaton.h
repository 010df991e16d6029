// A grammar as a deterministic pushdown automaton over bytes. A state has at most one successor for
// a byte; beside that it may call a rule, which pushes the state to come back to, and may be where
// its own rule ends, which pops one.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "runtime/grammar/grammar_rules.h"

namespace thermocline {

class GrammarAutomaton {
 public:
  using State = uint32_t;
  static constexpr State kNone = 0;

  struct Call {
    State start;  // of the rule that is called
    State back;
  };
  struct TokenEdge {
    int32_t id;
    bool negated;  // any token but that
    State target;
  };

  // longest_token: bytes; see mask_class. Throws Error for a grammar that is left-recursive, too
  // large, or matches no text.
  GrammarAutomaton(const GrammarRules& grammar, size_t longest_token);

  State start() const { return start_; }
  State Next(State state, uint8_t byte) const {
    return next_[state * n_byte_classes_ + byte_class_[byte]];
  }
  std::span<const Call> calls(State state) const {
    return std::span(calls_).subspan(call_begin_[state],
                                     call_begin_[state + 1] - call_begin_[state]);
  }
  std::span<const TokenEdge> tokens(State state) const {
    return std::span(tokens_).subspan(token_begin_[state],
                                      token_begin_[state + 1] - token_begin_[state]);
  }
  bool accepts(State state) const { return (flags_[state] & kAccepts) != 0; }
  // Neither calls nor is an end: nothing but its bytes and tokens goes on.
  bool plain(State state) const { return (flags_[state] & kPlain) != 0; }
  // Is an end, and nothing goes on.
  bool only_ends(State state) const { return (flags_[state] & kOnlyEnds) != 0; }
  // Nothing goes on but calls.
  bool only_calls(State state) const { return (flags_[state] & kOnlyCalls) != 0; }
  // States of one class are alike as far as a token reaches: no text of at most longest_token bytes
  // tells them apart (Moore's partition, stopped after so many rounds). The characters of a counted
  // repetition are one class but for the last few.
  uint32_t mask_class(State state) const { return mask_class_[state]; }

  size_t n_states() const { return flags_.size(); }
  size_t n_mask_classes() const { return n_mask_classes_; }

 private:
  friend class AutomatonMaker;
  static constexpr uint8_t kAccepts = 1;
  static constexpr uint8_t kPlain = 2;
  static constexpr uint8_t kOnlyEnds = 4;
  static constexpr uint8_t kOnlyCalls = 8;

  std::array<uint8_t, 256> byte_class_{};
  size_t n_byte_classes_ = 1;
  std::vector<State> next_;  // (state, byte class)
  std::vector<uint32_t> call_begin_;
  std::vector<Call> calls_;
  std::vector<uint32_t> token_begin_;
  std::vector<TokenEdge> tokens_;
  std::vector<uint8_t> flags_;
  std::vector<uint32_t> mask_class_;
  size_t n_mask_classes_ = 0;
  State start_ = kNone;
};

}  // namespace thermocline
