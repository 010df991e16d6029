// The grammar of JSON itself, whose rules other grammars of JSON use. White space between the parts
// of a value is bounded, as in llama.cpp's grammars: a model cannot write spaces for ever.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "runtime/grammar/gbnf_text.h"

namespace thermocline {

// Each returns the name of a rule, and adds what is missing of it to a writer. Values take the
// white space behind them.
class JsonRules {
 public:
  explicit JsonRules(GbnfWriter& writer) : writer_(writer) {}

  GbnfWriter& writer() { return writer_; }
  std::string Space();
  std::string Char();    // one character within a string, maybe escaped
  std::string String();  // with its quotes
  std::string Number();
  std::string Integer();
  std::string Boolean();
  std::string Null();
  std::string Object();  // any
  std::string Array();
  std::string Value();
  // A rule that matches nothing.
  std::string Nothing();
  // What follows a text of a string's characters: the rest of the string, its end and white space.
  std::string StringRest();

 private:
  void AddValues();

  GbnfWriter& writer_;
  std::string value_;
  std::string object_;
  std::string array_;
};

// Returns what a class of characters is within a JSON string, where some are escaped. Of control
// characters that have no short escape it has those that are listed one by one.
std::string JsonCharSet(const std::vector<CodepointRange>& ranges);

}  // namespace thermocline
