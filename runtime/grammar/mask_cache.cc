#include "runtime/grammar/mask_cache.h"

#include <algorithm>
#include <utility>

namespace thermocline {
namespace {

constexpr size_t kMaxKeptBytes = size_t{96} << 20;

void SetBit(std::span<uint32_t> bits, int32_t id) {
  bits[static_cast<size_t>(id) / 32] |= 1U << (static_cast<uint32_t>(id) % 32);
}

}  // namespace

// Walks the trie with stacks whose bottom is not known.
class MaskCache::Walk {
 public:
  Walk(const GrammarAutomaton& automaton, const TokenTrie& trie, FramePool& pool)
      : trie_(trie), stepper_(automaton, pool) {}

  // Of the root: only what the state itself goes on with.
  void FromTop(GrammarStack stack) {
    stacks_ = {stack};
    Below(0);
  }
  // From a node on, in a state that is entered there.
  void FromNode(uint32_t node, GrammarStack stack) {
    stacks_.clear();
    if (stepper_.Close(stack, 0, &stacks_)) Leave(node);
    Below(node);
  }

  std::vector<int32_t> tokens;
  std::vector<uint32_t> leaves;

 private:
  void Leave(uint32_t node) {
    if (trie_.nodes()[node].subtree_end > node + 1) leaves.push_back(node);
  }

  // Walks the nodes below one, at which stacks_ are those that the text so far may be in.
  void Below(uint32_t top) {
    const std::span<const TokenTrie::Node> nodes = trie_.nodes();
    const uint32_t base = nodes[top].depth;
    begins_ = {0, stacks_.size()};  // of the stacks at each depth, and their end
    for (uint32_t node = top + 1; node < nodes[top].subtree_end;) {
      const size_t depth = nodes[node].depth - base;
      begins_.resize(depth + 1);
      stacks_.resize(begins_[depth]);
      const bool ends =
          stepper_.Step(nodes[node].byte, begins_[depth - 1], begins_[depth], &stacks_);
      if (stacks_.size() == begins_[depth]) {
        node = nodes[node].subtree_end;
        continue;
      }
      const std::span<const int32_t> here = trie_.tokens_at(node);
      tokens.insert(tokens.end(), here.begin(), here.end());
      if (ends) Leave(node);
      begins_.push_back(stacks_.size());
      ++node;
    }
  }

  const TokenTrie& trie_;
  StackStepper stepper_;
  std::vector<GrammarStack> stacks_;
  std::vector<size_t> begins_;
};

void MaskCache::AddAllowed(std::span<const GrammarStack> stacks, const FramePool& pool,
                           std::span<uint32_t> allowed) {
  const std::lock_guard lock(mutex_);
  if (stats_.kept_bytes > kMaxKeptBytes) {
    top_.clear();
    stats_.kept_bytes = 0;
    stats_.n_contexts = 0;
  }
  for (const GrammarStack& stack : stacks) {
    if (automaton_.only_ends(stack.state)) continue;
    if (pool.depth(stack.frame) > kMaxFrameDepth / 2) {  // near the bound, which a context ignores
      AddByWalk(stack, pool, allowed);
    } else {
      Find(stack, pool, allowed);
    }
  }
}

MaskCache::Stats MaskCache::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

const MaskCache::Context& MaskCache::Find(GrammarStack stack, const FramePool& pool,
                                          std::span<uint32_t> allowed) {
  std::unique_ptr<Context>& top = top_[automaton_.mask_class(stack.state)];
  if (!top) top = MakeTop(stack.state);
  Context* context = top.get();
  Add(*context, allowed);
  for (FramePool::Frame frame = stack.frame;
       !context->leaves.empty() && frame != FramePool::kBottom; frame = pool.below(frame)) {
    const GrammarAutomaton::State back = pool.back(frame);
    std::unique_ptr<Context>& below = context->below[automaton_.mask_class(back)];
    if (!below) below = MakeBelow(back, context->leaves);
    context = below.get();
    Add(*context, allowed);
  }
  return *context;
}

std::unique_ptr<MaskCache::Context> MaskCache::MakeTop(GrammarAutomaton::State state) {
  FramePool pool;
  Walk walk(automaton_, vocabulary_.trie(), pool);
  walk.FromTop({state, FramePool::kBottom});
  return Keep(walk);
}

std::unique_ptr<MaskCache::Context> MaskCache::MakeBelow(GrammarAutomaton::State state,
                                                         std::span<const uint32_t> leaves) {
  FramePool pool;
  Walk walk(automaton_, vocabulary_.trie(), pool);
  for (const uint32_t node : leaves) walk.FromNode(node, {state, FramePool::kBottom});
  return Keep(walk);
}

std::unique_ptr<MaskCache::Context> MaskCache::Keep(Walk& walk) {
  auto context = std::make_unique<Context>();
  const size_t n_words = (static_cast<size_t>(vocabulary_.size()) + 31) / 32;
  if (walk.tokens.size() > n_words) {
    context->bits.resize(n_words, 0);
    for (const int32_t id : walk.tokens) SetBit(context->bits, id);
  } else {
    context->tokens = std::move(walk.tokens);
  }
  std::sort(walk.leaves.begin(), walk.leaves.end());
  walk.leaves.erase(std::unique(walk.leaves.begin(), walk.leaves.end()), walk.leaves.end());
  context->leaves = std::move(walk.leaves);
  ++stats_.n_walks;
  ++stats_.n_contexts;
  stats_.kept_bytes +=
      sizeof(Context) + 64 +
      4 * (context->bits.size() + context->tokens.capacity() + context->leaves.capacity());
  return context;
}

void MaskCache::AddByWalk(GrammarStack stack, const FramePool& pool, std::span<uint32_t> allowed) {
  FramePool copy = pool;
  Walk walk(automaton_, vocabulary_.trie(), copy);
  walk.FromTop(stack);
  for (const int32_t id : walk.tokens) SetBit(allowed, id);
}

void MaskCache::Add(const Context& context, std::span<uint32_t> allowed) {
  for (const int32_t id : context.tokens) SetBit(allowed, id);
  for (size_t i = 0; i < context.bits.size(); ++i) allowed[i] |= context.bits[i];
}

}  // namespace thermocline
