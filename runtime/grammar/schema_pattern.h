// Regular expressions of JSON schemas as grammars of the texts within JSON strings.
#pragma once

#include <string>
#include <string_view>

#include "runtime/grammar/json_rules.h"
#include "runtime/grammar/schema_error.h"

namespace thermocline {

// Returns an expression of what a `pattern` matches, as a JSON string writes it, without the
// quotes. The subset of ECMAScript's expressions that is regular: alternatives, groups, classes, \d
// \w \s and their opposites, escapes, * + ? {m} {m,} {m,n} (lazy ones match the same), ^ and $ at
// the ends. As a schema's pattern may match anywhere, what is not anchored has any text around it.
// Throws Error for others, with the place.
std::string PatternBody(std::string_view pattern, const std::string& where, JsonRules& rules);

}  // namespace thermocline
