// Writes pieces of GBNF, for what makes grammars.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "runtime/grammar/grammar_rules.h"

namespace thermocline {

// Appends a character. REQUIRES: it is one of Unicode's, and no surrogate.
void AppendUtf8(uint32_t codepoint, std::string* out);

// Returns a text as GBNF writes it, with the quotes around it.
std::string GbnfText(std::string_view text);
// Returns a class of characters. Surrogates are left out; ranges: see NormalizedRanges.
std::string GbnfSet(const std::vector<CodepointRange>& ranges);
// Returns the reference to one token.
std::string GbnfToken(int32_t id);

// A grammar that is being written, rule by rule.
class GbnfWriter {
 public:
  // Adds a rule and returns its name: `hint`, which is made a name and unique. The same body under
  // the same hint is the same rule.
  std::string Add(std::string_view hint, std::string_view body);
  // Returns a name for a rule whose body comes later, by Define.
  std::string Reserve(std::string_view hint);
  void Define(std::string_view name, std::string_view body);
  // All rules so far.
  const std::string& text() const { return text_; }

 private:
  std::string text_;
  std::unordered_map<std::string, std::string> name_of_;  // by hint and body
  std::unordered_map<std::string, int> n_of_;             // rules with a hint
};

}  // namespace thermocline
