#include "runtime/grammar/grammar_nfa.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>

#include "runtime/core/error.h"
#include "runtime/grammar/gbnf_text.h"

namespace thermocline {
namespace {

using Kind = GrammarExpr::Kind;
using Edge = GrammarNfa::Edge;

constexpr int kMaxCopyDepth = 24;

// UTF-8 of a range of characters is sequences of ranges of bytes. The characters between two
// neighbouring bounds below have equally many bytes.
constexpr uint32_t kUtf8Bounds[] = {0x80, 0x800, 0xD800, 0xE000, 0x10000, 0x110000};

class NfaMaker {
 public:
  NfaMaker(const GrammarRules& grammar, const RuleGraph& graph) : grammar_(grammar), graph_(graph) {
    nfa_.place.assign(grammar.rules.size(), -1);
  }

  GrammarNfa Make() {
    Place(grammar_.root);
    for (size_t i = 0; i < nfa_.rules.size(); ++i) {
      const GrammarNfa::Rule rule = nfa_.rules[i];
      Body(rule.rule, rule.start, rule.end, 0);
    }
    return std::move(nfa_);
  }

 private:
  // Where an expression stands: within copies of rules of which each ends at `end`. A rule that
  // stands at the end and is there already is entered again: a loop.
  struct Scope {
    int32_t group;
    uint32_t end;
    int depth;
    std::unordered_map<int32_t, uint32_t> starts = {};
    std::vector<std::pair<int32_t, uint32_t>> to_do = {};
  };

  uint32_t AddNode() {
    if (nfa_.first_edge.size() >= kMaxNfaNodes) {
      throw Error({.what = "the grammar is too large",
                   .expected = fmt::format("repetitions and rules that make at most {} states",
                                           kMaxNfaNodes),
                   .hint = "make its counts smaller, or repeat without a bound"});
    }
    nfa_.first_edge.push_back(0);
    return static_cast<uint32_t>(nfa_.first_edge.size() - 1);
  }
  void Add(uint32_t from, Edge edge) {
    edge.next = nfa_.first_edge[from];
    nfa_.first_edge[from] = static_cast<uint32_t>(nfa_.edges.size());
    nfa_.edges.push_back(edge);
  }
  void AddEmpty(uint32_t from, uint32_t to) { Add(from, {.target = to}); }
  void AddBytes(uint32_t from, uint8_t first, uint8_t last, uint32_t to) {
    Add(from, {.target = to, .kind = Edge::Kind::kBytes, .first = first, .last = last});
  }

  void Place(int32_t rule) {
    int32_t& place = nfa_.place[static_cast<size_t>(rule)];
    if (place >= 0) return;
    place = static_cast<int32_t>(nfa_.rules.size());
    const uint32_t start = AddNode();
    nfa_.rules.push_back({rule, start, AddNode()});
  }
  void AddCall(uint32_t from, int32_t rule, uint32_t to) {
    Place(rule);
    Add(from, {.target = to, .id = rule, .kind = Edge::Kind::kCall});
    // So a call need not count as a way without bytes (GrammarAutomaton::mask_class).
    if (graph_.nullable(rule)) AddEmpty(from, to);
  }

  // Puts a rule's body between two nodes.
  void Body(int32_t rule, uint32_t start, uint32_t end, int depth) {
    Scope scope{.group = graph_.group(rule), .end = end, .depth = depth};
    scope.starts[rule] = start;
    scope.to_do.emplace_back(rule, start);
    while (!scope.to_do.empty()) {
      const auto [next, begin] = scope.to_do.back();
      scope.to_do.pop_back();
      Put(grammar_.rules[static_cast<size_t>(next)], begin, end, true, &scope);
    }
  }

  // at_end: `to` is the scope's end, and nothing follows.
  void PutRule(int32_t rule, uint32_t from, uint32_t to, bool at_end, Scope* scope) {
    if (at_end) {
      const auto there = scope->starts.find(rule);
      if (there != scope->starts.end()) {
        AddEmpty(from, there->second);
        return;
      }
      if (graph_.copies(rule) || (graph_.group(rule) == scope->group && graph_.small(rule))) {
        const uint32_t start = AddNode();
        AddEmpty(from, start);
        scope->starts[rule] = start;
        scope->to_do.emplace_back(rule, start);
        return;
      }
    } else if (graph_.copies(rule) && scope->depth < kMaxCopyDepth) {
      const uint32_t start = AddNode();
      AddEmpty(from, start);
      Body(rule, start, to, scope->depth + 1);
      return;
    }
    AddCall(from, rule, to);
  }

  void Put(const GrammarExpr& expr, uint32_t from, uint32_t to, bool at_end, Scope* scope) {
    switch (expr.kind) {
      case Kind::kText:
        return PutText(expr.text, from, to);
      case Kind::kSet:
        return PutSet(expr.set, from, to);
      case Kind::kRule:
        return PutRule(expr.id, from, to, at_end, scope);
      case Kind::kToken:
        return Add(from, {.target = to,
                          .id = expr.id,
                          .kind = expr.negated ? Edge::Kind::kOtherToken : Edge::Kind::kToken});
      case Kind::kSequence: {
        for (size_t i = 0; i < expr.parts.size(); ++i) {
          const bool is_last = i + 1 == expr.parts.size();
          const uint32_t next = is_last ? to : AddNode();
          Put(expr.parts[i], from, next, at_end && is_last, scope);
          from = next;
        }
        if (expr.parts.empty()) AddEmpty(from, to);
        return;
      }
      case Kind::kChoice:
        for (const GrammarExpr& part : expr.parts) Put(part, from, to, at_end, scope);
        return;
      case Kind::kRepeat:
        return PutRepeat(expr, from, to, at_end, scope);
    }
  }

  void PutRepeat(const GrammarExpr& expr, uint32_t from, uint32_t to, bool at_end, Scope* scope) {
    const GrammarExpr& body = expr.parts.front();
    if (expr.least == 0 && expr.most == 1) {
      AddEmpty(from, to);
      return Put(body, from, to, at_end, scope);
    }
    uint32_t at = AddNode();
    AddEmpty(from, at);
    const auto once_more = [&] {
      const uint32_t next = AddNode();
      Put(body, at, next, false, scope);
      at = next;
    };
    for (int64_t i = 0; i < expr.least; ++i) once_more();
    if (expr.most < 0) {
      const uint32_t loop = AddNode();
      AddEmpty(at, loop);
      Put(body, loop, loop, false, scope);
      AddEmpty(loop, to);
      return;
    }
    for (int64_t i = expr.least; i < expr.most; ++i) {
      AddEmpty(at, to);
      once_more();
    }
    AddEmpty(at, to);
  }

  void PutText(const std::string& text, uint32_t from, uint32_t to) {
    if (text.empty()) return AddEmpty(from, to);
    for (size_t i = 0; i < text.size(); ++i) {
      const uint32_t next = i + 1 == text.size() ? to : AddNode();
      const auto byte = static_cast<uint8_t>(text[i]);
      AddBytes(from, byte, byte, next);
      from = next;
    }
  }

  void PutSet(const std::vector<CodepointRange>& set, uint32_t from, uint32_t to) {
    any_tail_ = {to, 0, 0, 0};
    for (const CodepointRange& range : set) {
      uint32_t first = range.first;
      for (const uint32_t bound : kUtf8Bounds) {
        if (first > range.last) break;
        if (first >= bound) continue;
        const uint32_t last = std::min(range.last, bound - 1);
        if (bound != 0xE000) PutEqualLength(first, last, from);
        first = bound;
      }
    }
  }

  // Characters from first to last, which have equally many bytes.
  void PutEqualLength(uint32_t first, uint32_t last, uint32_t from) {
    std::string low;
    std::string high;
    AppendUtf8(first, &low);
    AppendUtf8(last, &high);
    PutBytes(low, high, 0, from);
  }

  // Returns the node from which n bytes of the kind that follows a first one lead to the end.
  uint32_t AnyTail(size_t n) {
    if (n == 0) return any_tail_[0];
    if (any_tail_[n] == 0) {
      const uint32_t next = AnyTail(n - 1);
      any_tail_[n] = AddNode();
      AddBytes(any_tail_[n], 0x80, 0xBF, next);
    }
    return any_tail_[n];
  }

  // The texts of low.size() bytes from low to high, of which the first `at` are equal and behind.
  void PutBytes(const std::string& low, const std::string& high, size_t at, uint32_t from) {
    const auto low_byte = static_cast<uint8_t>(low[at]);
    const auto high_byte = static_cast<uint8_t>(high[at]);
    const size_t n_behind = low.size() - at - 1;
    const auto all_from = [&](char byte) {
      return std::all_of(low.begin() + static_cast<ptrdiff_t>(at) + 1, low.end(),
                         [byte](char c) { return c == byte; });
    };
    const auto all_to = [&](char byte) {
      return std::all_of(high.begin() + static_cast<ptrdiff_t>(at) + 1, high.end(),
                         [byte](char c) { return c == byte; });
    };
    const bool from_least = all_from('\x80');
    const bool to_most = all_to('\xBF');
    if (from_least && to_most) {
      return AddBytes(from, low_byte, high_byte, AnyTail(n_behind));
    }
    if (low_byte == high_byte) {
      const uint32_t next = AddNode();
      AddBytes(from, low_byte, low_byte, next);
      return PutBytes(low, high, at + 1, next);
    }
    int first_whole = low_byte;
    int last_whole = high_byte;
    if (!from_least) {
      ++first_whole;
      const uint32_t next = AddNode();
      AddBytes(from, low_byte, low_byte, next);
      PutBytes(low, low.substr(0, at + 1) + std::string(n_behind, '\xBF'), at + 1, next);
    }
    if (!to_most) {
      --last_whole;
      const uint32_t next = AddNode();
      AddBytes(from, high_byte, high_byte, next);
      PutBytes(high.substr(0, at + 1) + std::string(n_behind, '\x80'), high, at + 1, next);
    }
    if (first_whole <= last_whole) {
      AddBytes(from, static_cast<uint8_t>(first_whole), static_cast<uint8_t>(last_whole),
               AnyTail(n_behind));
    }
  }

  const GrammarRules& grammar_;
  const RuleGraph& graph_;
  GrammarNfa nfa_;
  std::array<uint32_t, 4> any_tail_{};  // of the class being put; 0: not made
};

}  // namespace

GrammarNfa MakeGrammarNfa(const GrammarRules& grammar, const RuleGraph& graph) {
  return NfaMaker(grammar, graph).Make();
}

}  // namespace thermocline
