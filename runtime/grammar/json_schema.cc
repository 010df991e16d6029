#include "runtime/grammar/json_schema.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "runtime/core/error.h"
#include "runtime/grammar/gbnf_parser.h"
#include "runtime/grammar/schema_converter.h"
#include "runtime/grammar/schema_numbers.h"
#include "runtime/grammar/schema_sets.h"

namespace thermocline {
namespace {

constexpr int kMaxJsonDepth = 500;
constexpr size_t kMaxSchemas = 50'000;

// Keywords that change what is allowed and that no grammar here keeps.
constexpr const char* kUnkept[] = {"not",
                                   "if",
                                   "then",
                                   "else",
                                   "dependentRequired",
                                   "dependentSchemas",
                                   "dependencies",
                                   "patternProperties",
                                   "contains",
                                   "minContains",
                                   "maxContains",
                                   "$dynamicRef",
                                   "$recursiveRef"};

// Copying and writing JSON goes as deep as it nests. This does not.
void CheckJsonDepth(const SchemaJson& json, const std::string& where) {
  std::vector<std::pair<const SchemaJson*, int>> to_do = {{&json, 0}};
  while (!to_do.empty()) {
    const auto [value, depth] = to_do.back();
    to_do.pop_back();
    if (depth > kMaxJsonDepth) {
      throw Error({.what = fmt::format("the JSON schema at {}", Printable(where, 200)),
                   .expected = fmt::format("JSON that nests at most {} deep", kMaxJsonDepth)});
    }
    if (!value->is_structured()) continue;
    for (const SchemaJson& item : *value) to_do.emplace_back(&item, depth + 1);
  }
}

}  // namespace

std::string SchemaConverter::Convert(const SchemaJson& schema, const std::string& where) {
  if (++depth_ > kMaxSchemaDepth || ++n_schemas_ > kMaxSchemas ||
      rules_.writer().text().size() > kMaxGrammarBytes) {
    throw Error({.what = fmt::format("the JSON schema at {}", Printable(where, 200)),
                 .expected = fmt::format("schemas nested at most {} deep, at most {} in all, and "
                                         "at most {} bytes of grammar",
                                         kMaxSchemaDepth, kMaxSchemas, kMaxGrammarBytes)});
  }
  std::string name = ConvertAny(schema, where);
  --depth_;
  return name;
}

std::string SchemaConverter::ConvertAny(const SchemaJson& schema, const std::string& where) {
  if (schema.is_boolean()) return schema == true ? rules_.Value() : rules_.Nothing();
  if (!schema.is_object()) {
    throw Error({.what = fmt::format("the JSON schema at {}", Printable(where, 200)),
                 .expected = "an object or a boolean",
                 .found = ShortJson(schema)});
  }
  CheckKeywords(schema, where);
  if (const SchemaJson* ref = FindKeyword(schema, "$ref")) return ConvertRef(schema, *ref, where);
  for (const char* key : {"allOf", "anyOf", "oneOf"}) {
    if (schema.contains(key)) return Memoized(schema, where);
  }
  return ConvertPlain(schema, where);
}

void SchemaConverter::CheckKeywords(const SchemaJson& schema, const std::string& where) {
  for (const char* key : kUnkept) {
    if (schema.contains(key)) FailSchema(where, key, "none: it cannot be kept");
  }
  const auto allowed = [&](const char* key, const std::vector<SchemaJson>& values,
                           const std::string& expected) {
    const SchemaJson* value = FindKeyword(schema, key);
    if (value == nullptr || std::find(values.begin(), values.end(), *value) != values.end()) {
      return;
    }
    FailSchema(where, key, expected, ShortJson(*value));
  };
  allowed("uniqueItems", {false}, "false: equal items cannot be kept apart");
  allowed("multipleOf", {1}, "none, or 1: it cannot be kept");
  allowed("propertyNames", {true, SchemaJson::object(), {{"type", "string"}}},
          "none, or any text: it cannot be kept");
  allowed("unevaluatedProperties", {false, true}, "a boolean");
  allowed("unevaluatedItems", {false, true}, "a boolean");
  if (schema.contains("multipleOf")) {
    const SchemaJson* type = FindKeyword(schema, "type");
    if (type == nullptr || *type != "integer") {
      FailSchema(where, "multipleOf", "none, but 1 for integers: it cannot be kept");
    }
  }
}

std::string SchemaConverter::ConvertPlain(const SchemaJson& schema, const std::string& where) {
  if (schema.contains("const") || schema.contains("enum")) return ConvertListed(schema, where);
  const std::vector<std::string> types = TypesOf(schema, where);
  if (types.size() == 6 && !schema.contains("type")) return rules_.Value();  // nothing is said
  if (types.size() == 1) return ConvertType(schema, types.front(), where);
  std::string body;
  for (const std::string& type : types) {
    if (!body.empty()) body += " | ";
    body += ConvertType(schema, type, where);
  }
  return body.empty() ? rules_.Nothing() : rules_.writer().Add("types", body);
}

std::string SchemaConverter::ConvertListed(const SchemaJson& schema, const std::string& where) {
  SchemaJson values;
  if (schema.contains("const")) {
    values = SchemaJson::array({schema["const"]});
  } else {
    values = ListOf(schema, "enum", where);
  }
  std::string body;
  for (const SchemaJson& value : values) {
    if (!FitsSchema(value, schema, where)) continue;
    if (!body.empty()) body += " | ";
    body += GbnfText(value.dump(-1, ' ', false, SchemaJson::error_handler_t::replace));
  }
  if (body.empty()) return rules_.Nothing();
  return rules_.writer().Add("listed", fmt::format("({}) {}", body, rules_.Space()));
}

std::string SchemaConverter::ConvertType(const SchemaJson& schema, const std::string& type,
                                         const std::string& where) {
  if (type == "object") return ConvertObject(schema, where);
  if (type == "array") return ConvertArray(schema, where);
  if (type == "string") return ConvertString(schema, where);
  if (type == "number") return NumberRule(schema, false, where, rules_);
  if (type == "integer") return NumberRule(schema, true, where, rules_);
  return type == "boolean" ? rules_.Boolean() : rules_.Null();
}

const SchemaJson& SchemaConverter::ListOf(const SchemaJson& schema, const char* key,
                                          const std::string& where) {
  const SchemaJson& list = schema.at(key);
  if (!list.is_array() || list.empty())
    FailSchema(where, key, "a list of schemas", ShortJson(list));
  return list;
}

bool SchemaConverter::HasRules(const SchemaJson& schema) {
  for (const auto& entry : schema.items()) {
    const std::string& key = entry.key();
    if (key != "title" && key != "description" && key != "default" && key != "examples" &&
        key != "$comment" && key != "$schema" && key != "$id") {
      return true;
    }
  }
  return false;
}

std::string AddJsonSchema(const SchemaJson& schema, const std::string& where, JsonRules& rules) {
  CheckJsonDepth(schema, where);
  return SchemaConverter(schema, where, rules).ConvertRoot();
}

std::string JsonSchemaGbnf(const SchemaJson& schema) {
  GbnfWriter writer;
  JsonRules rules(writer);
  writer.Reserve("root");
  const std::string name = AddJsonSchema(schema, "#", rules);
  writer.Define("root", name);
  return writer.text();
}

std::string JsonObjectGbnf() {
  GbnfWriter writer;
  JsonRules rules(writer);
  writer.Reserve("root");
  writer.Define("root", rules.Object());
  return writer.text();
}

}  // namespace thermocline
