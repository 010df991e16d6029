// Objects and arrays of JSON schemas as grammars, from the rules of their parts.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/grammar/json_rules.h"

namespace thermocline {

struct ObjectParts {
  struct Property {
    std::string name;
    std::string value;  // a rule
    bool required = false;
  };
  std::vector<Property> properties;  // they come in this order
  std::string rest = {};             // of further properties behind them; empty: there are none
  int64_t least_rest = 0;
  int64_t most_rest = -1;  // -1: any number
};
// Returns the name of the object's rule.
std::string ObjectRule(const ObjectParts& parts, JsonRules& rules);

struct ArrayParts {
  std::vector<std::string> first;  // rules of the first items, which are all there
  std::string item = {};           // of further ones; empty: there are none
  int64_t least = 0;               // items in all
  int64_t most = -1;
};
std::string ArrayRule(const ArrayParts& parts, JsonRules& rules);

}  // namespace thermocline
