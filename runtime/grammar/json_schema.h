// JSON schemas as grammars: every text of the grammar is JSON that the schema allows. What a schema
// allows and the grammar does not write: docs/grammars.md.
#pragma once

#include <memory>
#include <string>

#include "runtime/grammar/json_rules.h"
#include "runtime/grammar/schema_error.h"

namespace thermocline {

// Returns a grammar. Throws Error, with the keyword and its place, for a schema that is not well
// formed or says what a grammar of this kind cannot keep.
std::string JsonSchemaGbnf(const SchemaJson& schema);

// The grammar of any JSON object.
std::string JsonObjectGbnf();

// The same for a part of a larger grammar: adds a schema's rules and returns the name of its own.
// where: "#", or what the schema is of, for messages.
std::string AddJsonSchema(const SchemaJson& schema, const std::string& where, JsonRules& rules);

}  // namespace thermocline
