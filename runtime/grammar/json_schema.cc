#include "runtime/grammar/json_schema.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "runtime/core/error.h"
#include "runtime/grammar/gbnf_parser.h"
#include "runtime/grammar/schema_formats.h"
#include "runtime/grammar/schema_numbers.h"
#include "runtime/grammar/schema_objects.h"
#include "runtime/grammar/schema_pattern.h"
#include "runtime/grammar/schema_sets.h"

namespace thermocline {
namespace {

constexpr int kMaxSchemaDepth = 100;
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

const SchemaJson* Find(const SchemaJson& schema, const char* key) {
  const auto at = schema.find(key);
  return at == schema.end() ? nullptr : &*at;
}

bool HasAny(const SchemaJson& schema, std::initializer_list<const char*> keys) {
  return std::any_of(keys.begin(), keys.end(),
                     [&](const char* key) { return schema.contains(key); });
}

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

class SchemaConverter {
 public:
  SchemaConverter(const SchemaJson& root, std::string root_where, JsonRules& rules)
      : root_(root), root_where_(std::move(root_where)), rules_(rules) {}

  std::string ConvertRoot() { return Convert(root_, root_where_); }

 private:
  // Returns the name of the schema's rule.
  std::string Convert(const SchemaJson& schema, const std::string& where) {
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

  std::string ConvertAny(const SchemaJson& schema, const std::string& where) {
    if (schema.is_boolean()) return schema == true ? rules_.Value() : rules_.Nothing();
    if (!schema.is_object()) {
      throw Error({.what = fmt::format("the JSON schema at {}", Printable(where, 200)),
                   .expected = "an object or a boolean",
                   .found = ShortJson(schema)});
    }
    CheckKeywords(schema, where);
    if (const SchemaJson* ref = Find(schema, "$ref")) return ConvertRef(schema, *ref, where);
    for (const char* key : {"allOf", "anyOf", "oneOf"}) {
      if (schema.contains(key)) return Memoized(schema, where);
    }
    return ConvertPlain(schema, where);
  }

  static void CheckKeywords(const SchemaJson& schema, const std::string& where) {
    for (const char* key : kUnkept) {
      if (schema.contains(key)) FailSchema(where, key, "none: it cannot be kept");
    }
    const auto allowed = [&](const char* key, const std::vector<SchemaJson>& values,
                             const std::string& expected) {
      const SchemaJson* value = Find(schema, key);
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
      const SchemaJson* type = Find(schema, "type");
      if (type == nullptr || *type != "integer") {
        FailSchema(where, "multipleOf", "none, but 1 for integers: it cannot be kept");
      }
    }
  }

  std::string ConvertRef(const SchemaJson& schema, const SchemaJson& ref,
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
    const std::string rule = rules_.writer().Reserve(hint.empty() ? "schema" : hint);
    refs_[path] = {rule, n_containers_};
    const std::string body = Convert(target, path);
    refs_[path].open_at_depth = -1;
    rules_.writer().Define(rule, body);
    return rule;
  }
  [[noreturn]] static void FailLoop(const std::string& where, const std::string& path) {
    FailSchema(where, "$ref", "a schema that is not itself at once", path);
  }

  // Whether a schema says more than what is for readers.
  static bool HasRules(const SchemaJson& schema) {
    for (const auto& entry : schema.items()) {
      const std::string& key = entry.key();
      if (key != "title" && key != "description" && key != "default" && key != "examples" &&
          key != "$comment" && key != "$schema" && key != "$id") {
        return true;
      }
    }
    return false;
  }

  // Schemas that are put together from others come up again where they are recursive.
  std::string Memoized(const SchemaJson& schema, const std::string& where) {
    const std::string key = schema.dump(-1, ' ', false, SchemaJson::error_handler_t::replace);
    const auto known = joined_.find(key);
    if (known != joined_.end()) {
      if (known->second.open_at_depth == n_containers_) FailLoop(where, ShortJson(schema));
      return known->second.rule;
    }
    const std::string rule = rules_.writer().Reserve("joined");
    joined_[key] = {rule, n_containers_};
    const std::string body = ConvertJoined(schema, where);
    joined_[key].open_at_depth = -1;
    rules_.writer().Define(rule, body);
    return rule;
  }

  std::string ConvertJoined(const SchemaJson& schema, const std::string& where) {
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

  void CheckDisjoint(const std::vector<SchemaJson>& alternatives, const std::string& where) const {
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

  static SchemaJson WithoutDefinitions(SchemaJson schema) {
    schema.erase("$defs");
    schema.erase("definitions");
    return schema;
  }

  // Joins two schemas, references followed.
  SchemaJson Joined(const SchemaJson& a, const SchemaJson& b, const std::string& where) const {
    return MergedSchema(WithoutRef(a, where), WithoutRef(b, where), where);
  }
  SchemaJson WithoutRef(const SchemaJson& schema, const std::string& where) const {
    SchemaJson out = schema;
    for (int i = 0; out.is_object() && out.contains("$ref"); ++i) {
      if (i == 20) FailLoop(where, ShortJson(schema));
      const SchemaJson ref = out["$ref"];
      out.erase("$ref");
      out = MergedSchema(ResolveRef(root_, ref, where), WithoutDefinitions(out), where);
    }
    return out;
  }

  std::string ConvertAllOf(const SchemaJson& schema, const std::string& where) {
    SchemaJson merged = WithoutDefinitions(schema);
    // Parts may themselves bring an allOf.
    for (int i = 0; merged.is_object() && merged.contains("allOf"); ++i) {
      if (i == kMaxSchemaDepth)
        FailSchema(where, "allOf", "schemas that are not themselves at once");
      const SchemaJson parts = ListOf(merged, "allOf", where);
      merged.erase("allOf");
      for (const SchemaJson& part : parts) merged = Joined(merged, part, where + "/allOf");
    }
    return Convert(merged, where);
  }

  static const SchemaJson& ListOf(const SchemaJson& schema, const char* key,
                                  const std::string& where) {
    const SchemaJson& list = schema.at(key);
    if (!list.is_array() || list.empty())
      FailSchema(where, key, "a list of schemas", ShortJson(list));
    return list;
  }

  std::string ConvertPlain(const SchemaJson& schema, const std::string& where) {
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

  std::string ConvertListed(const SchemaJson& schema, const std::string& where) {
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

  std::string ConvertType(const SchemaJson& schema, const std::string& type,
                          const std::string& where) {
    if (type == "object") return ConvertObject(schema, where);
    if (type == "array") return ConvertArray(schema, where);
    if (type == "string") return ConvertString(schema, where);
    if (type == "number") return NumberRule(schema, false, where, rules_);
    if (type == "integer") return NumberRule(schema, true, where, rules_);
    return type == "boolean" ? rules_.Boolean() : rules_.Null();
  }

  // What lies within a container may be the container again.
  std::string ConvertWithin(const SchemaJson& schema, const std::string& where) {
    ++n_containers_;
    std::string name = Convert(schema, where);
    --n_containers_;
    return name;
  }

  std::string ConvertString(const SchemaJson& schema, const std::string& where) {
    const int64_t least = CountOf(schema, "minLength", 0, where);
    const int64_t most = CountOf(schema, "maxLength", -1, where);
    std::string body;
    for (const char* key : {"pattern", "format"}) {
      const SchemaJson* value = Find(schema, key);
      if (value == nullptr) continue;
      if (!value->is_string()) FailSchema(where, key, "a text", ShortJson(*value));
      if (!body.empty()) FailSchema(where, "format", "no pattern beside it");
      if (least > 0 || most >= 0) {
        FailSchema(where, key, "no minLength or maxLength beside it: write counts into a pattern");
      }
      body = std::string_view(key) == "pattern"
                 ? PatternBody(value->get_ref<const std::string&>(), where, rules_)
                 : FormatBody(value->get_ref<const std::string&>(), where);
    }
    if (body.empty() && least == 0 && most < 0) return rules_.String();
    if (body.empty()) {
      if (most >= 0 && most < least) return rules_.Nothing();
      for (const auto& [key, count] : {std::pair{"minLength", least}, {"maxLength", most}}) {
        if (count > kMaxRepetitions) {
          FailSchema(where, key, fmt::format("at most {}", kMaxRepetitions), std::to_string(count));
        }
      }
      body = fmt::format("{}{{{},{}}}", rules_.Char(), least, most < 0 ? "" : std::to_string(most));
    }
    return rules_.writer().Add("text",
                               fmt::format(R"gbnf("\"" {} "\"" {})gbnf", body, rules_.Space()));
  }

  std::string FormatBody(const std::string& format, const std::string& where) {
    const auto pattern = FormatPattern(format);
    if (!pattern) FailSchema(where, "format", "one of " + FormatNames(), Printable(format, 40));
    return PatternBody(*pattern, where, rules_);
  }

  std::string ConvertArray(const SchemaJson& schema, const std::string& where) {
    if (!HasAny(schema, {"items", "prefixItems", "minItems", "maxItems"})) return rules_.Array();
    const int64_t least = CountOf(schema, "minItems", 0, where);
    const int64_t most = CountOf(schema, "maxItems", -1, where);
    if (std::max(least, most) > kMaxRepetitions) {
      FailSchema(where, least > most ? "minItems" : "maxItems",
                 fmt::format("at most {}", kMaxRepetitions));
    }
    const SchemaJson* items = Find(schema, "items");
    const SchemaJson* prefix = Find(schema, "prefixItems");
    const char* prefix_key = "prefixItems";
    if (prefix == nullptr && items != nullptr && items->is_array()) {  // as in older drafts
      prefix = items;
      prefix_key = "items";
      items = Find(schema, "additionalItems");
    }
    if (prefix != nullptr && !prefix->is_array()) {
      FailSchema(where, prefix_key, "a list of schemas", ShortJson(*prefix));
    }
    std::vector<std::string> first;
    for (size_t i = 0; prefix != nullptr && i < prefix->size(); ++i) {
      if (most >= 0 && static_cast<int64_t>(i) >= most) break;
      first.push_back(ConvertWithin((*prefix)[i], fmt::format("{}/{}/{}", where, prefix_key, i)));
    }
    std::string item;
    if (items != nullptr && *items != false) {
      item = ConvertWithin(*items, where + "/items");
    } else if (items == nullptr &&
               (prefix == nullptr || least > static_cast<int64_t>(first.size()))) {
      item = rules_.Value();
    }
    return ArrayRule({.first = first, .item = item, .least = least, .most = most}, rules_);
  }

  std::string ConvertObject(const SchemaJson& schema, const std::string& where) {
    if (!HasAny(schema, {"properties", "required", "additionalProperties", "minProperties",
                         "maxProperties"})) {
      return rules_.Object();
    }
    static const SchemaJson kNoProperties = SchemaJson::object();
    const SchemaJson* given = Find(schema, "properties");
    const SchemaJson& properties = given == nullptr ? kNoProperties : *given;
    if (!properties.is_object()) {
      FailSchema(where, "properties", "an object", ShortJson(properties));
    }
    std::set<std::string> required;
    if (const SchemaJson* names = Find(schema, "required"); names != nullptr) {
      if (names->is_array()) {
        for (const SchemaJson& name : *names) {
          if (!name.is_string()) FailSchema(where, "required", "a list of names", ShortJson(name));
          required.insert(name.get<std::string>());
        }
      } else if (!names->is_boolean()) {  // the third draft's, of a property
        FailSchema(where, "required", "a list of names", ShortJson(*names));
      }
    }
    const SchemaJson* rest = Find(schema, "additionalProperties");
    ObjectParts parts;
    for (const auto& [name, property] : properties.items()) {
      const std::string value = ConvertWithin(property, where + "/properties/" + name);
      parts.properties.push_back({name, value, required.erase(name) > 0});
    }
    for (const std::string& name : required) {  // that have no schema of their own
      const std::string value =
          rest == nullptr ? rules_.Value() : ConvertWithin(*rest, where + "/additionalProperties");
      parts.properties.push_back({name, value, true});
    }
    if (rest != nullptr ? *rest != false : parts.properties.empty()) {
      parts.rest =
          rest == nullptr ? rules_.Value() : ConvertWithin(*rest, where + "/additionalProperties");
    }
    LimitCounts(schema, where, &parts);
    return ObjectRule(parts, rules_);
  }

  // Names that a model writes may be equal, so that only an upper bound on their number can be
  // kept.
  static void LimitCounts(const SchemaJson& schema, const std::string& where, ObjectParts* parts) {
    const int64_t least = CountOf(schema, "minProperties", 0, where);
    const int64_t most = CountOf(schema, "maxProperties", -1, where);
    const auto n_required = std::count_if(parts->properties.begin(), parts->properties.end(),
                                          [](const auto& property) { return property.required; });
    if (least > n_required) {
      if (least > 1 || !parts->properties.empty() || parts->rest.empty()) {
        FailSchema(where, "minProperties",
                   "at most the number of required properties, or 1 of any name",
                   std::to_string(least));
      }
      parts->least_rest = 1;
    }
    if (most < 0) return;
    const auto n_named = static_cast<int64_t>(parts->properties.size());
    const bool only_required = n_required == n_named;
    if (most < n_required || (!only_required && (most < n_named || !parts->rest.empty()))) {
      FailSchema(where, "maxProperties",
                 "at least the number of properties, and none that may be left out beside others",
                 std::to_string(most));
    }
    if (most - n_named > kMaxRepetitions) return;
    if (only_required) parts->most_rest = most - n_named;
  }

  struct Open {
    std::string rule;
    int64_t open_at_depth = -1;  // n_containers_ while it is being made
  };

  const SchemaJson& root_;
  std::string root_where_;
  JsonRules& rules_;
  std::unordered_map<std::string, Open> refs_;
  std::unordered_map<std::string, Open> joined_;
  int depth_ = 0;
  size_t n_schemas_ = 0;
  int64_t n_containers_ = 0;  // within which the schema lies that is being made
};

}  // namespace

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
