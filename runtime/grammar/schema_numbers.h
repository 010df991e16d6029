// Numbers within bounds, as grammars: exactly the decimal texts whose value lies within them.
#pragma once

#include <string>

#include "runtime/grammar/json_rules.h"
#include "runtime/grammar/schema_error.h"

namespace thermocline {

// Returns a rule of what a schema's minimum, maximum, exclusiveMinimum and exclusiveMaximum allow,
// and white space behind it. Integers have at most 16 digits. Other numbers have at most 15 in all
// and no exponent: then no two texts are one double, and a text that differs from an exclusive
// bound differs from it as a double, too. Throws Error for a bound that is no number.
std::string NumberRule(const SchemaJson& schema, bool integer, const std::string& where,
                       JsonRules& rules);

}  // namespace thermocline
