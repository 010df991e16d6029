// Texts, lists and objects of schemas.
#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <set>
#include <string_view>

#include "runtime/core/error.h"
#include "runtime/grammar/gbnf_parser.h"
#include "runtime/grammar/schema_converter.h"
#include "runtime/grammar/schema_formats.h"
#include "runtime/grammar/schema_pattern.h"

namespace thermocline {
namespace {

bool HasAny(const SchemaJson& schema, std::initializer_list<const char*> keys) {
  return std::any_of(keys.begin(), keys.end(),
                     [&](const char* key) { return schema.contains(key); });
}

}  // namespace

std::string SchemaConverter::ConvertWithin(const SchemaJson& schema, const std::string& where) {
  ++n_containers_;
  std::string name = Convert(schema, where);
  --n_containers_;
  return name;
}

std::string SchemaConverter::ConvertString(const SchemaJson& schema, const std::string& where) {
  const int64_t least = CountOf(schema, "minLength", 0, where);
  const int64_t most = CountOf(schema, "maxLength", -1, where);
  std::string body;
  for (const char* key : {"pattern", "format"}) {
    const SchemaJson* value = FindKeyword(schema, key);
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

std::string SchemaConverter::FormatBody(const std::string& format, const std::string& where) {
  const auto pattern = FormatPattern(format);
  if (!pattern) FailSchema(where, "format", "one of " + FormatNames(), Printable(format, 40));
  return PatternBody(*pattern, where, rules_);
}

std::string SchemaConverter::ConvertArray(const SchemaJson& schema, const std::string& where) {
  if (!HasAny(schema, {"items", "prefixItems", "minItems", "maxItems"})) return rules_.Array();
  const int64_t least = CountOf(schema, "minItems", 0, where);
  const int64_t most = CountOf(schema, "maxItems", -1, where);
  if (std::max(least, most) > kMaxRepetitions) {
    FailSchema(where, least > most ? "minItems" : "maxItems",
               fmt::format("at most {}", kMaxRepetitions));
  }
  const SchemaJson* items = FindKeyword(schema, "items");
  const SchemaJson* prefix = FindKeyword(schema, "prefixItems");
  const char* prefix_key = "prefixItems";
  if (prefix == nullptr && items != nullptr && items->is_array()) {  // as in older drafts
    prefix = items;
    prefix_key = "items";
    items = FindKeyword(schema, "additionalItems");
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

std::string SchemaConverter::ConvertObject(const SchemaJson& schema, const std::string& where) {
  if (!HasAny(schema, {"properties", "required", "additionalProperties", "minProperties",
                       "maxProperties"})) {
    return rules_.Object();
  }
  static const SchemaJson no_properties = SchemaJson::object();
  const SchemaJson* given = FindKeyword(schema, "properties");
  const SchemaJson& properties = given == nullptr ? no_properties : *given;
  if (!properties.is_object()) {
    FailSchema(where, "properties", "an object", ShortJson(properties));
  }
  std::set<std::string> required;
  if (const SchemaJson* names = FindKeyword(schema, "required"); names != nullptr) {
    if (names->is_array()) {
      for (const SchemaJson& name : *names) {
        if (!name.is_string()) FailSchema(where, "required", "a list of names", ShortJson(name));
        required.insert(name.get<std::string>());
      }
    } else if (!names->is_boolean()) {  // the third draft's, of a property
      FailSchema(where, "required", "a list of names", ShortJson(*names));
    }
  }
  const SchemaJson* rest = FindKeyword(schema, "additionalProperties");
  ObjectParts parts;
  for (const auto& [name, property] : properties.items()) {
    const std::string value = ConvertWithin(property, fmt::format("{}/properties/{}", where, name));
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

void SchemaConverter::LimitCounts(const SchemaJson& schema, const std::string& where,
                                  ObjectParts* parts) {
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

}  // namespace thermocline
