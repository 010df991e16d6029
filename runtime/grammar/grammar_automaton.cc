#include "runtime/grammar/grammar_automaton.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "runtime/core/error.h"
#include "runtime/grammar/determinize.h"
#include "runtime/grammar/rule_graph.h"

namespace thermocline {

// Turns what Determinize made into tables, without the states from which no text ends.
class AutomatonMaker {
 public:
  AutomatonMaker(GrammarDfa dfa, const ByteClasses& classes, GrammarAutomaton* out)
      : dfa_(std::move(dfa)), n_classes_(classes.n), out_(*out) {
    out_.byte_class_ = classes.of;
    out_.n_byte_classes_ = classes.n;
  }

  void Make(size_t longest_token) {
    FindLive();
    if (live_[dfa_.starts.front()] == 0) {
      throw Error({.what = "the grammar matches no text that ends",
                   .hint = "give each recursive rule an alternative without itself"});
    }
    FillTables();
    FillFlags();
    FindMaskClasses(longest_token);
  }

 private:
  size_t n_states() const { return dfa_.accepts.size(); }

  // A state is live where a text ends behind it; a call is worth something where the rule's start
  // and the state to come back to are.
  void FindLive() {
    struct Pair {
      uint32_t target;
      uint32_t from;
    };
    std::vector<Pair> back_edges;
    for (uint32_t state = 1; state < n_states(); ++state) {
      uint32_t before = 0;
      for (size_t c = 0; c < n_classes_; ++c) {
        const uint32_t target = dfa_.next[state * n_classes_ + c];
        if (target != 0 && target != before) back_edges.push_back({target, state});
        before = target;
      }
    }
    for (const GrammarDfa::TokenEdge& edge : dfa_.tokens) {
      back_edges.push_back({edge.target, edge.from});
    }
    std::vector<std::vector<uint32_t>> calls_to(n_states());  // by back, and by the rule's start
    for (uint32_t i = 0; i < dfa_.calls.size(); ++i) {
      calls_to[dfa_.calls[i].back].push_back(i);
      calls_to[StartOf(dfa_.calls[i])].push_back(i);
    }
    std::sort(back_edges.begin(), back_edges.end(),
              [](const Pair& a, const Pair& b) { return a.target < b.target; });
    live_.assign(n_states(), 0);
    std::vector<uint32_t> queue;
    const auto mark = [&](uint32_t state) {
      if (live_[state] != 0) return;
      live_[state] = 1;
      queue.push_back(state);
    };
    for (uint32_t state = 1; state < n_states(); ++state) {
      if (dfa_.accepts[state] != 0) mark(state);
    }
    while (!queue.empty()) {
      const uint32_t state = queue.back();
      queue.pop_back();
      auto at = std::lower_bound(back_edges.begin(), back_edges.end(), state,
                                 [](const Pair& pair, uint32_t s) { return pair.target < s; });
      for (; at != back_edges.end() && at->target == state; ++at) mark(at->from);
      for (const uint32_t call : calls_to[state]) {
        if (IsLive(dfa_.calls[call])) mark(dfa_.calls[call].from);
      }
    }
  }
  uint32_t StartOf(const GrammarDfa::Call& call) const {
    return dfa_.starts[static_cast<size_t>(call.rule)];
  }
  bool IsLive(const GrammarDfa::Call& call) const {
    return live_[call.back] != 0 && live_[StartOf(call)] != 0;
  }

  void FillTables() {
    out_.next_ = std::move(dfa_.next);
    for (size_t i = 0; i < out_.next_.size(); ++i) {
      if (live_[out_.next_[i]] == 0) out_.next_[i] = 0;
    }
    out_.start_ = dfa_.starts.front();
    size_t call = 0;
    size_t token = 0;
    for (uint32_t state = 0; state < n_states(); ++state) {
      out_.call_begin_.push_back(static_cast<uint32_t>(out_.calls_.size()));
      out_.token_begin_.push_back(static_cast<uint32_t>(out_.tokens_.size()));
      for (; call < dfa_.calls.size() && dfa_.calls[call].from == state; ++call) {
        const GrammarDfa::Call& edge = dfa_.calls[call];
        if (IsLive(edge)) out_.calls_.push_back({StartOf(edge), edge.back});
      }
      for (; token < dfa_.tokens.size() && dfa_.tokens[token].from == state; ++token) {
        const GrammarDfa::TokenEdge& edge = dfa_.tokens[token];
        if (live_[edge.target] != 0) out_.tokens_.push_back({edge.id, edge.negated, edge.target});
      }
    }
    out_.call_begin_.push_back(static_cast<uint32_t>(out_.calls_.size()));
    out_.token_begin_.push_back(static_cast<uint32_t>(out_.tokens_.size()));
  }

  void FillFlags() {
    using A = GrammarAutomaton;
    out_.flags_.resize(n_states());
    for (uint32_t state = 0; state < n_states(); ++state) {
      const bool accepts = dfa_.accepts[state] != 0;
      const bool calls = !out_.calls(state).empty();
      const auto row = out_.next_.begin() + static_cast<ptrdiff_t>(state * n_classes_);
      const bool reads =
          !out_.tokens(state).empty() || std::any_of(row, row + static_cast<ptrdiff_t>(n_classes_),
                                                     [](uint32_t target) { return target != 0; });
      uint8_t flags = accepts ? A::kAccepts : 0;
      if (!accepts && !calls) flags |= A::kPlain;
      if (accepts && !calls && !reads) flags |= A::kOnlyEnds;
      if (!accepts && calls && !reads) flags |= A::kOnlyCalls;
      out_.flags_[state] = flags;
    }
  }

  static uint64_t Mix(uint64_t hash, uint64_t value) {
    hash = (hash ^ value) * 0x9FB21C651E98DF25;
    return hash ^ hash >> 32;
  }

  uint64_t Signature(uint32_t state, const std::vector<uint32_t>& of) const {
    uint64_t hash = Mix(0x2545F4914F6CDD1D, of[state]);
    const uint32_t* row = out_.next_.data() + state * n_classes_;
    for (size_t c = 0; c < n_classes_; ++c) hash = Mix(hash, of[row[c]]);
    for (const GrammarAutomaton::Call& call : out_.calls(state)) {
      hash = Mix(Mix(hash, uint64_t{1} << 40 | call.start), of[call.back]);
    }
    for (const GrammarAutomaton::TokenEdge& edge : out_.tokens(state)) {
      const auto id = static_cast<uint32_t>(edge.id);
      hash = Mix(Mix(hash, uint64_t{edge.negated ? 3U : 2U} << 40 | id), of[edge.target]);
    }
    return hash;
  }

  // Each round parts states that texts of one more byte tell apart.
  void FindMaskClasses(size_t longest_token) {
    std::vector<uint32_t> of(n_states());
    for (uint32_t state = 1; state < n_states(); ++state) {
      of[state] = out_.accepts(state) ? 2 : 1;
    }
    std::vector<uint32_t> refined(n_states());
    std::unordered_map<uint64_t, uint32_t> numbers;
    size_t n_before = 0;
    size_t work = 0;
    for (size_t round = 0; round < longest_token; ++round) {
      work += out_.next_.size();
      if (work > kMaxClassWork) {  // too large to tell: every state is a class
        for (uint32_t state = 0; state < n_states(); ++state) of[state] = state;
        n_before = n_states();
        break;
      }
      numbers.clear();
      numbers.reserve(n_before * 2);
      for (uint32_t state = 0; state < n_states(); ++state) {
        const auto number = static_cast<uint32_t>(numbers.size());
        refined[state] = numbers.try_emplace(Signature(state, of), number).first->second;
      }
      of.swap(refined);
      if (numbers.size() == n_before) break;
      n_before = numbers.size();
    }
    out_.mask_class_ = std::move(of);
    out_.n_mask_classes_ = n_before;
  }

  static constexpr size_t kMaxClassWork = size_t{200} << 20;

  GrammarDfa dfa_;
  size_t n_classes_;
  GrammarAutomaton& out_;
  std::vector<uint8_t> live_;
};

GrammarAutomaton::GrammarAutomaton(const GrammarRules& grammar, size_t longest_token) {
  const RuleGraph graph(grammar);
  const GrammarNfa nfa = MakeGrammarNfa(grammar, graph);
  const ByteClasses classes = FindByteClasses(nfa);
  AutomatonMaker(Determinize(nfa, classes), classes, this).Make(longest_token);
}

}  // namespace thermocline
