// Where a text stands in a grammar: the states it may be in, each with the calls that it is within.
#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "runtime/grammar/grammar_automaton.h"

namespace thermocline {

// Stacks of states to come back to. Equal stacks are one frame.
class FramePool {
 public:
  using Frame = uint32_t;
  static constexpr Frame kBottom = 0;

  FramePool() : entries_(1) {}
  Frame Push(uint32_t back, Frame below);
  uint32_t back(Frame frame) const { return entries_[frame].back; }
  Frame below(Frame frame) const { return entries_[frame].below; }
  uint32_t depth(Frame frame) const { return entries_[frame].depth; }
  size_t size() const { return entries_.size(); }
  void Clear();

 private:
  struct Entry {
    uint32_t back = 0;
    Frame below = 0;
    uint32_t depth = 0;
  };
  std::vector<Entry> entries_;
  std::unordered_map<uint64_t, Frame> frame_of_;
};

struct GrammarStack {
  GrammarAutomaton::State state = GrammarAutomaton::kNone;
  FramePool::Frame frame = FramePool::kBottom;
  bool operator==(const GrammarStack&) const = default;
};

// How deep calls nest at most; texts that would nest deeper are not allowed.
inline constexpr uint32_t kMaxFrameDepth = 500;
// How many stacks a text may be in at once; a more ambiguous grammar is an Error.
inline constexpr size_t kMaxStacks = 2000;

// Moves stacks along a text.
class StackStepper {
 public:
  // Both must outlive the stepper.
  StackStepper(const GrammarAutomaton& automaton, FramePool& pool)
      : automaton_(automaton), pool_(pool) {}

  // Appends to *stacks, from `begin` on without repeating any, a stack and all that calls and ends
  // of rules lead to without a byte. Returns whether the bottom's rule ends there. Throws Error
  // where there are more than kMaxStacks.
  bool Close(GrammarStack stack, size_t begin, std::vector<GrammarStack>* stacks) {
    if (automaton_.plain(stack.state)) {
      Append(stack, begin, stacks);
      return false;
    }
    return CloseCalls(stack, begin, stacks);
  }
  // The same for the state that a byte leads to from each of the stacks [first, last).
  bool Step(uint8_t byte, size_t first, size_t last, std::vector<GrammarStack>* stacks) {
    const size_t begin = stacks->size();
    bool ends = false;
    for (size_t i = first; i < last; ++i) {
      const GrammarStack from = (*stacks)[i];
      const uint32_t next = automaton_.Next(from.state, byte);
      if (next != GrammarAutomaton::kNone) ends |= Close({next, from.frame}, begin, stacks);
    }
    return ends;
  }

 private:
  // Returns whether it was new, and leads on.
  bool Append(GrammarStack stack, size_t begin, std::vector<GrammarStack>* stacks);
  bool CloseCalls(GrammarStack stack, size_t begin, std::vector<GrammarStack>* stacks);

  const GrammarAutomaton& automaton_;
  FramePool& pool_;
};

}  // namespace thermocline
