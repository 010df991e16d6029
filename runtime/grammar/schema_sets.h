// What can be told of schemas without making grammars of them: what both of two allow, whether a
// value fits, whether two have nothing in common.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "runtime/grammar/schema_error.h"

namespace thermocline {

// Returns the schema that a local reference ("#/$defs/node") means. Throws Error.
const SchemaJson& ResolveRef(const SchemaJson& root, const SchemaJson& ref,
                             const std::string& where);

// Returns a schema of what both allow; `false` where that is nothing. References stay references:
// they come into an allOf. Throws Error for keywords that cannot be joined.
SchemaJson MergedSchema(const SchemaJson& a, const SchemaJson& b, const std::string& where);

// Returns the names of the types that a schema's `type`, `const` or `enum` names, else those that
// its other keywords are about; all of them where there are none. Throws Error.
std::vector<std::string> TypesOf(const SchemaJson& schema, const std::string& where);

// Whether a value of an enum fits what else a schema says. Throws Error where that is more than
// types, bounds and lengths of it.
bool FitsSchema(const SchemaJson& value, const SchemaJson& schema, const std::string& where);

// Whether no text that is made for one of two schemas fits the other one. False where it cannot be
// told.
bool AreDisjoint(const SchemaJson& root, const SchemaJson& a, const SchemaJson& b);

}  // namespace thermocline
