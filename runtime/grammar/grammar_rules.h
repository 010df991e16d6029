// A grammar as it is written: rules, each an expression over texts, classes of characters, tokens
// and other rules.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace thermocline {

// From first to last, both included.
struct CodepointRange {
  uint32_t first = 0;
  uint32_t last = 0;
};

inline constexpr uint32_t kMaxCodepoint = 0x10FFFF;

// Sorts the ranges and joins those that touch.
std::vector<CodepointRange> NormalizedRanges(std::vector<CodepointRange> ranges);
// Returns all characters but those of some ranges.
std::vector<CodepointRange> ComplementOf(std::vector<CodepointRange> ranges);

struct GrammarExpr {
  enum class Kind : uint8_t {
    kText,      // `text`; empty: nothing
    kSet,       // one character of `set`; an empty set matches no text
    kRule,      // what the rule with number `id` matches
    kToken,     // the token `id`, or with `negated` any one token but that
    kSequence,  // all `parts`, one after another
    kChoice,    // one of `parts`
    kRepeat,    // parts[0], `least` to `most` times; most < 0: without end
  };
  Kind kind = Kind::kText;
  std::string text = {};
  std::vector<CodepointRange> set = {};  // normalised
  int32_t id = -1;
  bool negated = false;
  int64_t least = 0;
  int64_t most = -1;
  std::vector<GrammarExpr> parts = {};
};

struct GrammarRules {
  std::vector<std::string> names;
  std::vector<GrammarExpr> rules;  // by the same numbers
  int32_t root = 0;
};

}  // namespace thermocline
