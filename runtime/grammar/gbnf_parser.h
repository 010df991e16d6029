// Reads grammars in llama.cpp's GBNF: rules `name ::= ...` of texts "abc", classes [a-z] and [^\n],
// any character `.`, groups, `|`, repetitions * + ? {m} {m,} {m,n}, tokens <name>, <[id]>, !<[id]>,
// and comments from # on. Text, classes and `.` are about Unicode characters.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string_view>

#include "runtime/grammar/grammar_rules.h"

namespace thermocline {

// Returns the id of a token by the text that a grammar writes for it ("<think>"), or -1.
using TokenLookup = std::function<int32_t(std::string_view)>;

inline constexpr size_t kMaxGrammarBytes = size_t{4} << 20;
inline constexpr int kMaxGrammarNesting = 100;         // of groups
inline constexpr size_t kMaxGrammarParts = 400'000;    // texts, classes, groups, ... in all rules
inline constexpr int64_t kMaxRepetitions = 1'000'000;  // what {m,n} may say

// Throws Error, with the line, for a text that is no grammar, names rules that are not there, or
// passes a limit. n_tokens: ids are below it. lookup: may be null, then no token has a name. The
// rule `root` is where a text begins. Of rules of one name the last counts.
GrammarRules ParseGbnf(std::string_view text, int32_t n_tokens, const TokenLookup& lookup);

}  // namespace thermocline
