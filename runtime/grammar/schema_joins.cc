// Schemas that are made of others: references, allOf, anyOf, oneOf.
#include <fmt/format.h>

#include <string_view>

#include "runtime/core/error.h"
#include "runtime/grammar/schema_converter.h"
#include "runtime/grammar/schema_sets.h"

namespace thermocline {

std::string SchemaConverter::ConvertRef(const SchemaJson& schema, const SchemaJson& ref,
                                        const std::string& where) {
  const SchemaJson& target = ResolveRef(root_, ref, where);
  SchemaJson siblings = schema;
  siblings.erase("$ref");
  for (const char* key : {"$defs", "definitions"}) siblings.erase(key);
  if (HasRules(siblings)) {
    return Memoized({{"allOf", SchemaJson::array({{{"$ref", ref}}, siblings})}}, where);
  }
  const std::string& path = ref.get_ref<const std::string&>();
  const auto known = refs_.find(path);
  if (known != refs_.end()) {
    if (known->second.open_at_depth == n_containers_) FailLoop(where, path);
    return known->second.rule;
  }
  std::string hint = path.substr(path.find_last_of("/#") + 1);
  std::string rule = rules_.writer().Reserve(hint.empty() ? "schema" : hint);
  refs_[path] = {rule, n_containers_};
  const std::string body = Convert(target, path);
  refs_[path].open_at_depth = -1;
  rules_.writer().Define(rule, body);
  return rule;
}

void SchemaConverter::FailLoop(const std::string& where, const std::string& path) {
  FailSchema(where, "$ref", "a schema that is not itself at once", path);
}

std::string SchemaConverter::Memoized(const SchemaJson& schema, const std::string& where) {
  const std::string key = schema.dump(-1, ' ', false, SchemaJson::error_handler_t::replace);
  const auto known = joined_.find(key);
  if (known != joined_.end()) {
    if (known->second.open_at_depth == n_containers_) FailLoop(where, ShortJson(schema));
    return known->second.rule;
  }
  std::string rule = rules_.writer().Reserve("joined");
  joined_[key] = {rule, n_containers_};
  const std::string body = ConvertJoined(schema, where);
  joined_[key].open_at_depth = -1;
  rules_.writer().Define(rule, body);
  return rule;
}

std::string SchemaConverter::ConvertJoined(const SchemaJson& schema, const std::string& where) {
  if (schema.contains("allOf")) return ConvertAllOf(schema, where);
  const char* key = schema.contains("anyOf") ? "anyOf" : "oneOf";
  const SchemaJson& alternatives = ListOf(schema, key, where);
  SchemaJson rest = schema;
  rest.erase(key);
  const bool plain = !HasRules(WithoutDefinitions(rest));
  std::vector<SchemaJson> merged;
  for (size_t i = 0; i < alternatives.size(); ++i) {
    const std::string at = fmt::format("{}/{}/{}", where, key, i);
    merged.push_back(plain ? alternatives[i] : Joined(rest, alternatives[i], at));
  }
  if (std::string_view(key) == "oneOf") CheckDisjoint(merged, where);
  std::string body;
  for (size_t i = 0; i < merged.size(); ++i) {
    if (merged[i] == false) continue;
    if (!body.empty()) body += " | ";
    body += Convert(merged[i], fmt::format("{}/{}/{}", where, key, i));
  }
  return body.empty() ? rules_.Nothing() : body;
}

void SchemaConverter::CheckDisjoint(const std::vector<SchemaJson>& alternatives,
                                    const std::string& where) const {
  for (size_t i = 0; i < alternatives.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (AreDisjoint(root_, alternatives[j], alternatives[i])) continue;
      FailSchema(where, "oneOf",
                 "alternatives of which a value fits one (by its type, or by a constant); anyOf "
                 "takes others",
                 fmt::format("alternatives {} and {}, which may both fit", j, i));
    }
  }
}

SchemaJson SchemaConverter::WithoutDefinitions(SchemaJson schema) {
  schema.erase("$defs");
  schema.erase("definitions");
  return schema;
}

SchemaJson SchemaConverter::Joined(const SchemaJson& a, const SchemaJson& b,
                                   const std::string& where) const {
  return MergedSchema(WithoutRef(a, where), WithoutRef(b, where), where);
}

SchemaJson SchemaConverter::WithoutRef(const SchemaJson& schema, const std::string& where) const {
  SchemaJson out = schema;
  for (int i = 0; out.is_object() && out.contains("$ref"); ++i) {
    if (i == 20) FailLoop(where, ShortJson(schema));
    const SchemaJson ref = out["$ref"];
    out.erase("$ref");
    out = MergedSchema(ResolveRef(root_, ref, where), WithoutDefinitions(out), where);
  }
  return out;
}

std::string SchemaConverter::ConvertAllOf(const SchemaJson& schema, const std::string& where) {
  SchemaJson merged = WithoutDefinitions(schema);
  // Parts may themselves bring an allOf.
  for (int i = 0; merged.is_object() && merged.contains("allOf"); ++i) {
    if (i == kMaxSchemaDepth) FailSchema(where, "allOf", "schemas that are not themselves at once");
    const SchemaJson parts = ListOf(merged, "allOf", where);
    merged.erase("allOf");
    for (const SchemaJson& part : parts) merged = Joined(merged, part, where + "/allOf");
  }
  return Convert(merged, where);
}

}  // namespace thermocline
