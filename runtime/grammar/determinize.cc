#include "runtime/grammar/determinize.h"

#include <fmt/format.h>

#include <algorithm>
#include <bitset>
#include <map>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

using Edge = GrammarNfa::Edge;
using Nodes = std::vector<uint32_t>;  // ascending

constexpr size_t kMaxCells = size_t{8} << 20;  // states times byte classes
constexpr size_t kMaxStates = 250'000;
constexpr size_t kMaxWork = size_t{20} << 20;  // edges looked at, nodes of all sets

struct NodesHash {
  size_t operator()(const Nodes& nodes) const {
    uint64_t hash = 0x9E3779B97F4A7C15;
    for (const uint32_t node : nodes) hash = (hash ^ node) * 0xFF51AFD7ED558CCD + (hash >> 29);
    return hash;
  }
};

class Determinizer {
 public:
  Determinizer(const GrammarNfa& nfa, const ByteClasses& classes)
      : nfa_(nfa), classes_(classes), seen_(nfa.first_edge.size(), 0), by_class_(classes.n) {
    AddState();  // none
  }

  GrammarDfa Make() {
    for (const GrammarNfa::Rule& rule : nfa_.rules) MakeRule(rule);
    return std::move(dfa_);
  }

 private:
  uint32_t AddState() {
    const size_t state = dfa_.accepts.size();
    if ((state + 1) * classes_.n > kMaxCells || state > kMaxStates) FailSize();
    dfa_.accepts.push_back(0);
    dfa_.next.resize((state + 1) * classes_.n, 0);
    return static_cast<uint32_t>(state);
  }
  [[noreturn]] static void FailSize() {
    throw Error(
        {.what = "the grammar is too large",
         .expected = fmt::format("at most {} states and {} transitions", kMaxStates, kMaxCells),
         .hint = "make its counts smaller, or repeat without a bound"});
  }
  void Count(size_t n) {
    work_ += n;
    if (work_ > kMaxWork) FailSize();
  }

  // Adds what empty edges lead to, and keeps the nodes that something else leads on from.
  Nodes Close(const Nodes& nodes, uint32_t end) {
    ++round_;
    Nodes out;
    stack_ = nodes;
    for (const uint32_t node : nodes) seen_[node] = round_;
    while (!stack_.empty()) {
      const uint32_t node = stack_.back();
      stack_.pop_back();
      bool leads_on = node == end;
      for (uint32_t at = nfa_.first_edge[node]; at != 0; at = nfa_.edges[at].next) {
        const Edge& edge = nfa_.edges[at];
        Count(1);
        if (edge.kind != Edge::Kind::kEmpty) {
          leads_on = true;
        } else if (seen_[edge.target] != round_) {
          seen_[edge.target] = round_;
          stack_.push_back(edge.target);
        }
      }
      if (leads_on) out.push_back(node);
    }
    std::sort(out.begin(), out.end());
    return out;
  }

  // Returns the state of some nodes (ascending, unique) with what empty edges lead to.
  uint32_t StateOf(const Nodes& nodes) {
    const auto known = state_of_targets_.find(nodes);
    if (known != state_of_targets_.end()) return known->second;
    Nodes closed = Close(nodes, rule_.end);
    Count(nodes.size() + closed.size());
    const auto [entry, added] = state_of_.try_emplace(closed, 0);
    if (added) {
      entry->second = AddState();
      dfa_.accepts.back() = std::binary_search(closed.begin(), closed.end(), rule_.end) ? 1 : 0;
      to_do_.emplace_back(entry->second, std::move(closed));
    }
    state_of_targets_.emplace(nodes, entry->second);
    return entry->second;
  }

  void MakeRule(const GrammarNfa::Rule& rule) {
    rule_ = rule;
    state_of_.clear();
    state_of_targets_.clear();
    dfa_.starts.push_back(StateOf({rule.start}));
    // In the order of their numbers, so that calls and tokens come ascending.
    for (size_t i = 0; i < to_do_.size(); ++i) {
      const Nodes nodes = std::move(to_do_[i].second);
      MakeState(to_do_[i].first, nodes);
    }
    to_do_.clear();
  }

  void MakeState(uint32_t state, const Nodes& nodes) {
    std::map<std::tuple<Edge::Kind, int32_t>, Nodes> others;
    for (Nodes& targets : by_class_) targets.clear();
    for (const uint32_t node : nodes) {
      for (uint32_t at = nfa_.first_edge[node]; at != 0; at = nfa_.edges[at].next) {
        const Edge& edge = nfa_.edges[at];
        if (edge.kind == Edge::Kind::kEmpty) continue;
        if (edge.kind == Edge::Kind::kBytes) {
          Count(1 + classes_.of[edge.last] - classes_.of[edge.first]);
          for (size_t c = classes_.of[edge.first]; c <= classes_.of[edge.last]; ++c) {
            by_class_[c].push_back(edge.target);
          }
        } else {
          others[{edge.kind, edge.id}].push_back(edge.target);
        }
      }
    }
    const auto state_of = [&](Nodes& targets) {
      std::sort(targets.begin(), targets.end());
      targets.erase(std::unique(targets.begin(), targets.end()), targets.end());
      return StateOf(targets);
    };
    for (size_t c = 0; c < classes_.n; ++c) {
      if (by_class_[c].empty()) continue;
      const uint32_t target = state_of(by_class_[c]);
      dfa_.next[state * classes_.n + c] = target;
    }
    for (auto& [key, targets] : others) {
      const auto [kind, id] = key;
      const uint32_t target = state_of(targets);
      if (kind == Edge::Kind::kCall) {
        dfa_.calls.push_back({state, nfa_.place[static_cast<size_t>(id)], target});
      } else {
        dfa_.tokens.push_back({state, id, kind == Edge::Kind::kOtherToken, target});
      }
    }
  }

  const GrammarNfa& nfa_;
  const ByteClasses& classes_;
  GrammarDfa dfa_;
  GrammarNfa::Rule rule_;
  std::unordered_map<Nodes, uint32_t, NodesHash> state_of_;          // closed sets
  std::unordered_map<Nodes, uint32_t, NodesHash> state_of_targets_;  // before that
  std::vector<std::pair<uint32_t, Nodes>> to_do_;
  std::vector<uint32_t> seen_;
  uint32_t round_ = 0;
  Nodes stack_;
  std::vector<Nodes> by_class_;
  size_t work_ = 0;
};

}  // namespace

ByteClasses FindByteClasses(const GrammarNfa& nfa) {
  std::bitset<257> begins;
  begins.set(0);
  for (const Edge& edge : nfa.edges) {
    if (edge.kind != Edge::Kind::kBytes) continue;
    begins.set(edge.first);
    begins.set(edge.last + size_t{1});
  }
  ByteClasses classes;
  for (size_t byte = 0; byte < 256; ++byte) {
    if (begins[byte]) ++classes.n;
    classes.of[byte] = static_cast<uint8_t>(classes.n - 1);
  }
  return classes;
}

GrammarDfa Determinize(const GrammarNfa& nfa, const ByteClasses& classes) {
  return Determinizer(nfa, classes).Make();
}

}  // namespace thermocline
