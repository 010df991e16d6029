// From the automaton of a rule to one whose states have at most one successor for every byte, call
// and token (the subset construction).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/grammar/grammar_nfa.h"

namespace thermocline {

// Bytes of one class are alike everywhere in the grammar.
struct ByteClasses {
  std::array<uint8_t, 256> of{};
  size_t n = 0;
};
ByteClasses FindByteClasses(const GrammarNfa& nfa);

// States of all rules together. State 0 is none: nothing goes on from there.
struct GrammarDfa {
  struct Call {
    uint32_t from;
    int32_t rule;  // its number in GrammarNfa::rules
    uint32_t back;
  };
  struct TokenEdge {
    uint32_t from;
    int32_t id;
    bool negated;
    uint32_t target;
  };
  std::vector<uint32_t> next;     // (state, byte class)
  std::vector<uint8_t> accepts;   // (state)
  std::vector<Call> calls;        // by `from`, ascending
  std::vector<TokenEdge> tokens;  // the same
  std::vector<uint32_t> starts;   // of the rules
};

// Throws Error where that passes a limit.
GrammarDfa Determinize(const GrammarNfa& nfa, const ByteClasses& classes);

}  // namespace thermocline
