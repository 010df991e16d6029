#include "runtime/grammar/grammar_mask.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "runtime/core/error.h"
#include "runtime/grammar/gbnf_parser.h"

namespace thermocline {
namespace {

constexpr size_t kMaxFrames = 50'000;  // before those in use are sorted out

GrammarRules ParseFor(std::string_view gbnf, const GrammarVocabulary& vocabulary) {
  return ParseGbnf(gbnf, vocabulary.size(),
                   [&](std::string_view name) { return vocabulary.Find(name); });
}

}  // namespace

CompiledGrammar::CompiledGrammar(std::string_view gbnf,
                                 std::shared_ptr<const GrammarVocabulary> vocabulary)
    : vocabulary_(std::move(vocabulary)),
      automaton_(ParseFor(gbnf, *vocabulary_),
                 {vocabulary_->short_tokens().longest(), vocabulary_->long_tokens().longest()}),
      short_masks_(automaton_, vocabulary_->short_tokens(), 0, vocabulary_->size()),
      long_masks_(automaton_, vocabulary_->long_tokens(), 1, vocabulary_->size()) {}

void CompiledGrammar::AddAllowed(std::span<const GrammarStack> stacks, const FramePool& pool,
                                 std::span<uint32_t> allowed) const {
  short_masks_.AddAllowed(stacks, pool, allowed);
  if (long_masks_.has_tokens()) long_masks_.AddAllowed(stacks, pool, allowed);
}

MaskCache::Stats CompiledGrammar::mask_stats() const {
  const MaskCache::Stats a = short_masks_.stats();
  const MaskCache::Stats b = long_masks_.stats();
  return {a.n_contexts + b.n_contexts, a.kept_bytes + b.kept_bytes, a.n_walks + b.n_walks};
}

GrammarMask::GrammarMask(std::shared_ptr<const CompiledGrammar> grammar, std::vector<int32_t> ends)
    : grammar_(std::move(grammar)) {
  const int32_t n_tokens = grammar_->vocabulary().size();
  std::erase_if(ends, [n_tokens](int32_t id) { return id < 0 || id >= n_tokens; });
  std::sort(ends.begin(), ends.end());
  ends_ = std::make_shared<const std::vector<int32_t>>(std::move(ends));
  StackStepper stepper(grammar_->automaton(), pool_);
  may_end_ = stepper.Close({grammar_->automaton().start(), FramePool::kBottom}, 0, &stacks_);
}

bool GrammarMask::Ends(int32_t id) const {
  return std::binary_search(ends_->begin(), ends_->end(), id);
}

void GrammarMask::Fill(std::span<uint32_t> allowed) {
  const auto n_words = static_cast<size_t>(TokenMaskWords(grammar_->vocabulary().size()));
  if (allowed.size() < n_words) {  // a model with fewer logits than its vocabulary has tokens
    std::vector<uint32_t> words(n_words);
    Fill(words);
    std::copy_n(words.begin(), allowed.size(), allowed.begin());
    return;
  }
  std::fill(allowed.begin(), allowed.end(), 0U);
  FillWords(allowed.first(n_words));
}

void GrammarMask::FillWords(std::span<uint32_t> words) {
  const auto set = [&](int32_t id, bool value) {
    const uint32_t bit = 1U << (static_cast<uint32_t>(id) % 32);
    uint32_t& word = words[static_cast<size_t>(id) / 32];
    word = value ? word | bit : word & ~bit;
  };
  if (!ended_) {
    grammar_->AddAllowed(stacks_, pool_, words);
    for (const GrammarStack& stack : stacks_) {
      for (const GrammarAutomaton::TokenEdge& edge : grammar_->automaton().tokens(stack.state)) {
        if (!edge.negated) {
          set(edge.id, true);
          continue;
        }
        const bool had = HasToken(words, edge.id);
        std::fill(words.begin(), words.end(), ~0U);
        set(edge.id, had);
      }
    }
  }
  for (const int32_t id : *ends_) set(id, may_end_ || ended_);
  // The last word has room for more than the vocabulary.
  const auto n_used = static_cast<uint32_t>(grammar_->vocabulary().size()) % 32;
  if (n_used != 0) words.back() &= (1U << n_used) - 1;
}

bool GrammarMask::Allows(int32_t id) {
  if (id < 0 || id >= grammar_->vocabulary().size()) return false;
  if (Ends(id)) return may_end_ || ended_;
  bool may_end = false;
  return !ended_ && !StacksBehind(id, &may_end).empty();
}

std::vector<GrammarStack> GrammarMask::StacksBehindText(std::string_view text, bool* may_end) {
  StackStepper stepper(grammar_->automaton(), pool_);
  std::vector<GrammarStack> stacks = stacks_;
  *may_end = may_end_;
  for (const char c : text) {
    const size_t n_before = stacks.size();
    *may_end = stepper.Step(static_cast<uint8_t>(c), 0, n_before, &stacks);
    stacks.erase(stacks.begin(), stacks.begin() + static_cast<ptrdiff_t>(n_before));
  }
  return stacks;
}

std::vector<GrammarStack> GrammarMask::StacksBehind(int32_t id, bool* may_end) {
  const std::string& bytes = grammar_->vocabulary().bytes(id);
  std::vector<GrammarStack> stacks;
  *may_end = false;
  if (!bytes.empty()) stacks = StacksBehindText(bytes, may_end);
  StackStepper stepper(grammar_->automaton(), pool_);
  for (const GrammarStack& stack : stacks_) {
    for (const GrammarAutomaton::TokenEdge& edge : grammar_->automaton().tokens(stack.state)) {
      if ((edge.id == id) == edge.negated) continue;
      *may_end |= stepper.Close({edge.target, stack.frame}, 0, &stacks);
    }
  }
  return stacks;
}

void GrammarMask::Accept(int32_t id) {
  if (Ends(id) && (may_end_ || ended_)) {
    ended_ = true;
    return;
  }
  std::vector<GrammarStack> stacks;
  bool may_end = false;
  if (!ended_ && !Ends(id) && id >= 0 && id < grammar_->vocabulary().size()) {
    stacks = StacksBehind(id, &may_end);
  }
  if (stacks.empty()) {
    throw Error(
        {.what = "a token is not what the grammar has next", .found = fmt::format("token {}", id)});
  }
  stacks_ = std::move(stacks);
  may_end_ = may_end;
  if (pool_.size() > kMaxFrames) CompactPool();
}

bool GrammarMask::AcceptText(std::string_view text) {
  bool may_end = false;
  std::vector<GrammarStack> stacks = StacksBehindText(text, &may_end);
  if (stacks.empty()) return false;
  stacks_ = std::move(stacks);
  may_end_ = may_end;
  if (pool_.size() > kMaxFrames) CompactPool();
  return true;
}

void GrammarMask::CompactPool() {
  FramePool pool;
  std::vector<uint32_t> backs;
  for (GrammarStack& stack : stacks_) {
    backs.clear();
    for (FramePool::Frame frame = stack.frame; frame != FramePool::kBottom;
         frame = pool_.below(frame)) {
      backs.push_back(pool_.back(frame));
    }
    stack.frame = FramePool::kBottom;
    for (auto back = backs.rbegin(); back != backs.rend(); ++back) {
      stack.frame = pool.Push(*back, stack.frame);
    }
  }
  pool_ = std::move(pool);
}

std::unique_ptr<TokenMask> GrammarMask::Clone() const {
  return std::make_unique<GrammarMask>(*this);
}

}  // namespace thermocline
