#include "runtime/grammar/rule_graph.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

using Kind = GrammarExpr::Kind;

constexpr int64_t kMuch = int64_t{1} << 40;
constexpr uint32_t kWideSet = 128;   // characters
constexpr int64_t kLongRepeat = 16;  // as good as a loop

// Calls visit(rule) for the rules that an expression can begin with.
template <typename Visit>
bool VisitFirst(const GrammarExpr& expr, const std::vector<uint8_t>& nullable, const Visit& visit) {
  switch (expr.kind) {
    case Kind::kText:
      return expr.text.empty();
    case Kind::kSet:
    case Kind::kToken:
      return false;
    case Kind::kRule:
      visit(expr.id);
      return nullable[static_cast<size_t>(expr.id)] != 0;
    case Kind::kSequence:
      return std::all_of(expr.parts.begin(), expr.parts.end(), [&](const GrammarExpr& part) {
        return VisitFirst(part, nullable, visit);
      });
    case Kind::kChoice: {
      bool any = false;
      for (const GrammarExpr& part : expr.parts) any |= VisitFirst(part, nullable, visit);
      return any;
    }
    case Kind::kRepeat:
      return VisitFirst(expr.parts.front(), nullable, visit) || expr.least == 0;
  }
  return false;
}

// Visits a graph depth first without recursion: a node's successors, then leave(node).
// enter(node) returns false for a node that was seen.
struct Visit {
  int32_t node;
  size_t next = 0;
};

}  // namespace

RuleGraph::RuleGraph(const GrammarRules& grammar) : grammar_(grammar) {
  FindNullable();
  CheckLeftRecursion();
  FindGroups();
  FindSizes();
}

bool RuleGraph::IsNullable(const GrammarExpr& expr) const {
  return VisitFirst(expr, nullable_, [](int32_t) {});
}

void RuleGraph::FindNullable() {
  const size_t n_rules = grammar_.rules.size();
  nullable_.assign(n_rules, 0);
  std::vector<std::vector<int32_t>> users(n_rules);
  std::vector<int32_t> queue;
  for (size_t rule = 0; rule < n_rules; ++rule) {
    VisitUses(grammar_.rules[rule], true, [&](int32_t used, bool) {
      if (users[Index(used)].empty() || users[Index(used)].back() != static_cast<int32_t>(rule)) {
        users[Index(used)].push_back(static_cast<int32_t>(rule));
      }
    });
    queue.push_back(static_cast<int32_t>(rule));
  }
  while (!queue.empty()) {
    const int32_t rule = queue.back();
    queue.pop_back();
    if (nullable_[Index(rule)] != 0 || !IsNullable(grammar_.rules[Index(rule)])) continue;
    nullable_[Index(rule)] = 1;
    queue.insert(queue.end(), users[Index(rule)].begin(), users[Index(rule)].end());
  }
}

void RuleGraph::CheckLeftRecursion() const {
  const size_t n_rules = grammar_.rules.size();
  std::vector<std::vector<int32_t>> first(n_rules);
  for (size_t rule = 0; rule < n_rules; ++rule) {
    VisitFirst(grammar_.rules[rule], nullable_, [&](int32_t used) { first[rule].push_back(used); });
  }
  std::vector<uint8_t> state(n_rules, 0);  // 1: on the path, 2: done
  std::vector<Visit> path;
  for (size_t begin = 0; begin < n_rules; ++begin) {
    if (state[begin] != 0) continue;
    path.push_back({static_cast<int32_t>(begin)});
    state[begin] = 1;
    while (!path.empty()) {
      Visit& top = path.back();
      if (top.next == first[Index(top.node)].size()) {
        state[Index(top.node)] = 2;
        path.pop_back();
        continue;
      }
      const int32_t used = first[Index(top.node)][top.next++];
      if (state[Index(used)] == 1) {
        throw Error({.what = fmt::format("the grammar's rule {} can begin with itself (left "
                                         "recursion)",
                                         Printable(grammar_.names[Index(used)], 60)),
                     .hint = "write it so that something stands before it"});
      }
      if (state[Index(used)] == 0) {
        state[Index(used)] = 1;
        path.push_back({used});
      }
    }
  }
}

// Tarjan's strongly connected components, without recursion.
void RuleGraph::FindGroups() {
  const size_t n_rules = grammar_.rules.size();
  std::vector<std::vector<int32_t>> uses(n_rules);
  n_uses_.assign(n_rules, 0);
  for (size_t rule = 0; rule < n_rules; ++rule) {
    VisitUses(grammar_.rules[rule], true, [&](int32_t used, bool) {
      uses[rule].push_back(used);
      ++n_uses_[Index(used)];
    });
  }
  group_.assign(n_rules, -1);
  nests_.assign(n_rules, 0);
  loops_.assign(n_rules, 0);
  std::vector<int32_t> number(n_rules, -1);
  std::vector<int32_t> low(n_rules, 0);
  std::vector<int32_t> open;
  std::vector<Visit> path;
  int32_t n_numbers = 0;
  int32_t n_groups = 0;
  const auto enter = [&](int32_t rule) {
    number[Index(rule)] = low[Index(rule)] = n_numbers++;
    open.push_back(rule);
    path.push_back({rule});
  };
  for (size_t begin = 0; begin < n_rules; ++begin) {
    if (number[begin] >= 0) continue;
    enter(static_cast<int32_t>(begin));
    while (!path.empty()) {
      const int32_t rule = path.back().node;
      if (path.back().next < uses[Index(rule)].size()) {
        const int32_t used = uses[Index(rule)][path.back().next++];
        if (number[Index(used)] < 0) {
          enter(used);
        } else if (group_[Index(used)] < 0) {
          low[Index(rule)] = std::min(low[Index(rule)], number[Index(used)]);
        }
        continue;
      }
      path.pop_back();
      if (!path.empty()) {
        int32_t& above = low[Index(path.back().node)];
        above = std::min(above, low[Index(rule)]);
      }
      if (low[Index(rule)] != number[Index(rule)]) continue;
      for (int32_t member = -1; member != rule;) {
        member = open.back();
        open.pop_back();
        group_[Index(member)] = n_groups;
        callees_first_.push_back(member);
      }
      ++n_groups;
    }
  }
  std::vector<uint8_t> group_nests(static_cast<size_t>(n_groups), 0);
  for (size_t rule = 0; rule < n_rules; ++rule) {
    VisitUses(grammar_.rules[rule], true, [&](int32_t used, bool at_end) {
      if (group_[Index(used)] != group_[rule]) return;
      loops_[rule] = 1;
      if (!at_end) group_nests[static_cast<size_t>(group_[rule])] = 1;
    });
  }
  for (size_t rule = 0; rule < n_rules; ++rule) {
    nests_[rule] = group_nests[static_cast<size_t>(group_[rule])];
  }
}

int64_t RuleGraph::SizeOf(const GrammarExpr& expr) const {
  int64_t size = 1;
  switch (expr.kind) {
    case Kind::kText:
      return static_cast<int64_t>(expr.text.size()) + 1;
    case Kind::kSet:
      return expr.set.size() == 1 && expr.set.front().last < 0x80 ? 1 : 8;
    case Kind::kToken:
      return 1;
    case Kind::kRule:
      return copies_[Index(expr.id)] != 0 ? size_[Index(expr.id)] + 1 : 1;
    case Kind::kSequence:
    case Kind::kChoice:
      for (const GrammarExpr& part : expr.parts) size = std::min(kMuch, size + SizeOf(part));
      return size;
    case Kind::kRepeat: {
      const int64_t n = expr.most < 0 ? expr.least + 1 : expr.most;
      return std::min(kMuch, 1 + n * std::min(kMuch / (n + 1), SizeOf(expr.parts.front())));
    }
  }
  return size;
}

bool RuleGraph::IsWide(const GrammarExpr& expr) const {
  if (expr.kind == Kind::kRule) return wide_[Index(expr.id)] != 0;
  if (expr.kind == Kind::kSet) {
    uint32_t n = 0;
    for (const CodepointRange& range : expr.set) n += range.last - range.first + 1;
    return n > kWideSet;
  }
  return std::any_of(expr.parts.begin(), expr.parts.end(),
                     [&](const GrammarExpr& part) { return IsWide(part); });
}

bool RuleGraph::HasWideLoop(const GrammarExpr& expr) const {
  if (expr.kind == Kind::kRule) {
    return copies_[Index(expr.id)] != 0 && wide_loop_[Index(expr.id)] != 0;
  }
  if (expr.kind == Kind::kRepeat && (expr.most < 0 || expr.most >= kLongRepeat) &&
      IsWide(expr.parts.front())) {
    return true;
  }
  return std::any_of(expr.parts.begin(), expr.parts.end(),
                     [&](const GrammarExpr& part) { return HasWideLoop(part); });
}

void RuleGraph::FindSizes() {
  const size_t n_rules = grammar_.rules.size();
  size_.assign(n_rules, 1);
  wide_.assign(n_rules, 0);
  wide_loop_.assign(n_rules, 0);
  copies_.assign(n_rules, 0);
  for (const int32_t rule : callees_first_) {
    const GrammarExpr& body = grammar_.rules[Index(rule)];
    size_[Index(rule)] = SizeOf(body);
    wide_[Index(rule)] = IsWide(body) ? 1 : 0;
    const bool wide_loop = HasWideLoop(body) || (loops_[Index(rule)] != 0 && IsWide(body));
    wide_loop_[Index(rule)] = wide_loop ? 1 : 0;
    const bool shared_loop = wide_loop && n_uses_[Index(rule)] > 1;
    copies_[Index(rule)] = nests_[Index(rule)] == 0 && small(rule) && !shared_loop ? 1 : 0;
  }
}

}  // namespace thermocline
