// What is known of a grammar's rules before they become an automaton: which match the empty text,
// which are recursive and how, and how large each becomes.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/grammar/grammar_rules.h"

namespace thermocline {

class RuleGraph {
 public:
  // Throws Error for left recursion, where a rule could begin with itself without end. `grammar`
  // must outlive the graph.
  explicit RuleGraph(const GrammarRules& grammar);

  // Whether the rule matches the empty text.
  bool nullable(int32_t rule) const { return nullable_[Index(rule)] != 0; }
  // Rules of one group can reach each other.
  int32_t group(int32_t rule) const { return group_[Index(rule)]; }
  // Whether a copy of the rule may stand wherever it is used. It may not where it contains itself
  // with something behind it (brackets in brackets), where it is large, and where it is a loop over
  // much of Unicode that several places share: what a vocabulary's tokens do there is found out
  // once then (mask_cache.h).
  bool copies(int32_t rule) const { return copies_[Index(rule)] != 0; }
  // Whether its body is small enough for a copy, recursive or not.
  bool small(int32_t rule) const { return size_[Index(rule)] <= kMaxCopySize; }

 private:
  static constexpr int64_t kMaxCopySize = 1500;  // nodes of an automaton
  static size_t Index(int32_t rule) { return static_cast<size_t>(rule); }

  void FindNullable();
  bool IsNullable(const GrammarExpr& expr) const;
  void CheckLeftRecursion() const;
  void FindGroups();
  void FindSizes();
  int64_t SizeOf(const GrammarExpr& expr) const;
  bool IsWide(const GrammarExpr& expr) const;       // has a class of much of Unicode
  bool HasWideLoop(const GrammarExpr& expr) const;  // and repeats it

  const GrammarRules& grammar_;
  std::vector<uint8_t> nullable_;
  std::vector<int32_t> group_;
  std::vector<int32_t> callees_first_;  // all rules
  std::vector<uint8_t> nests_;          // its group has a rule that uses another not at its end
  std::vector<uint8_t> loops_;          // it can reach itself
  std::vector<int64_t> n_uses_;
  std::vector<int64_t> size_;
  std::vector<uint8_t> wide_;
  std::vector<uint8_t> wide_loop_;
  std::vector<uint8_t> copies_;
};

// Calls visit(rule, at_end) for all rules that an expression uses; at_end: nothing follows it.
template <typename Visit>
void VisitUses(const GrammarExpr& expr, bool at_end, const Visit& visit) {
  if (expr.kind == GrammarExpr::Kind::kRule) {
    visit(expr.id, at_end);
    return;
  }
  const bool keeps_end = expr.kind != GrammarExpr::Kind::kRepeat || expr.most == 1;
  for (size_t i = 0; i < expr.parts.size(); ++i) {
    const bool is_last = expr.kind != GrammarExpr::Kind::kSequence || i + 1 == expr.parts.size();
    VisitUses(expr.parts[i], at_end && keeps_end && is_last, visit);
  }
}

}  // namespace thermocline
