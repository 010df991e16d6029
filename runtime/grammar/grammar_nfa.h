// A grammar's rules as nondeterministic automata over bytes, in which a rule that is not copied
// into its users is called: an edge that enters another automaton and comes back.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <utility>
#include <vector>

#include "runtime/grammar/grammar_rules.h"
#include "runtime/grammar/rule_graph.h"

namespace thermocline {

struct GrammarNfa {
  struct Edge {
    enum class Kind : uint8_t { kEmpty, kBytes, kCall, kToken, kOtherToken };
    uint32_t target = 0;
    uint32_t next = 0;  // the node's next edge; 0: none
    int32_t id = -1;    // of the rule that is called, or of the token
    Kind kind = Kind::kEmpty;
    uint8_t first = 0;  // bytes
    uint8_t last = 0;
  };
  struct Rule {
    int32_t rule = 0;
    uint32_t start = 0;
    uint32_t end = 0;
  };
  std::vector<uint32_t> first_edge;    // by node; 0: none
  std::vector<Edge> edges = {Edge{}};  // the first is none
  std::vector<Rule> rules;             // the root's first; all that are called
  std::vector<int32_t> place;          // of a rule in `rules`, or -1
};

inline constexpr size_t kMaxNfaNodes = 1'500'000;

// Throws Error where it would be larger than kMaxNfaNodes.
GrammarNfa MakeGrammarNfa(const GrammarRules& grammar, const RuleGraph& graph);

}  // namespace thermocline
