#include "runtime/grammar/grammar_stacks.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/core/error.h"

namespace thermocline {

FramePool::Frame FramePool::Push(uint32_t back, Frame below) {
  const auto [entry, added] =
      frame_of_.try_emplace(uint64_t{back} << 32 | below, static_cast<Frame>(entries_.size()));
  if (added) entries_.push_back({back, below, entries_[below].depth + 1});
  return entry->second;
}

void FramePool::Clear() {
  entries_.resize(1);
  frame_of_.clear();
}

bool StackStepper::Append(GrammarStack stack, size_t begin, std::vector<GrammarStack>* stacks) {
  if (automaton_.only_calls(stack.state) && pool_.depth(stack.frame) >= kMaxFrameDepth)
    return false;
  const auto from = stacks->begin() + static_cast<ptrdiff_t>(begin);
  if (std::find(from, stacks->end(), stack) != stacks->end()) return false;
  if (stacks->size() - begin >= kMaxStacks) {
    throw Error({.what = "the grammar is too ambiguous",
                 .expected = fmt::format("at most {} ways to read a text", kMaxStacks)});
  }
  stacks->push_back(stack);
  return true;
}

bool StackStepper::CloseCalls(GrammarStack stack, size_t begin, std::vector<GrammarStack>* stacks) {
  bool ends = false;
  size_t at = stacks->size();
  if (!Append(stack, begin, stacks)) return false;
  // What is appended behind `at` is what is left to do.
  for (; at < stacks->size(); ++at) {
    const GrammarStack top = (*stacks)[at];
    if (automaton_.accepts(top.state)) {
      if (top.frame == FramePool::kBottom) {
        ends = true;
      } else {
        Append({pool_.back(top.frame), pool_.below(top.frame)}, begin, stacks);
      }
    }
    for (const GrammarAutomaton::Call& call : automaton_.calls(top.state)) {
      if (automaton_.only_ends(call.back)) {  // what comes back there goes on at once
        Append({call.start, top.frame}, begin, stacks);
      } else if (pool_.depth(top.frame) < kMaxFrameDepth) {
        Append({call.start, pool_.Push(call.back, top.frame)}, begin, stacks);
      }
    }
  }
  return ends;
}

}  // namespace thermocline
