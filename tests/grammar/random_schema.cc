#include "tests/grammar/random_schema.h"

#include <algorithm>
#include <iterator>

namespace thermocline {

SchemaJson RandomSchemas::Next() {
  if (Chance(20)) {  // with definitions that refer to each other
    SchemaJson node = {{"type", "object"},
                       {"properties",
                        {{"value", Schema(2)},
                         {"next", {{"anyOf", {{{"$ref", "#/$defs/node"}}, {{"type", "null"}}}}}},
                         {"kids", {{"type", "array"}, {"items", {{"$ref", "#/$defs/node"}}}}}}},
                       {"required", {"value"}},
                       {"additionalProperties", Chance(70) ? SchemaJson(false) : SchemaJson(true)}};
    if (Chance(30)) node["properties"]["root"] = {{"$ref", "#"}};
    SchemaJson root = {{"$defs", {{"node", node}, {"leaf", Schema(1)}}},
                       {"type", "object"},
                       {"properties",
                        {{"first", {{"$ref", "#/$defs/node"}}},
                         {"leaf", {{"$ref", "#/$defs/leaf"}, {"description", "a leaf"}}}}},
                       {"required", {"first"}}};
    return root;
  }
  return Schema(3);
}

std::string RandomSchemas::Name() {
  const char* const names[] = {"id",   "name", "a",       "ab",  "abc",  "größe",    "x y",
                               "type", "kind", "items",   "$x",  "a\"b", "c\\d",     "",
                               "日本", "tags", "address", "zip", "unit", "line\nend"};
  return names[Below(std::size(names))];
}

SchemaJson RandomSchemas::Schema(int depth) {
  switch (Below(depth > 0 ? 12 : 7)) {
    case 0:
    case 1:
      return Number();
    case 2:
    case 3:
      return Text();
    case 4:
      return Listed();
    case 5:
      return {{"type", Chance(50) ? "boolean" : "null"}};
    case 6:
      return Chance(50) ? SchemaJson({{"type", {"string", "null"}}})
                        : SchemaJson({{"type", {"integer", "boolean"}}, {"minimum", 0}});
    case 7:
    case 8:
      return Object(depth);
    case 9:
      return List(depth);
    case 10:
      return Combined(depth);
    default:
      return Chance(70) ? Object(depth) : Chance(50) ? SchemaJson(true) : SchemaJson::object();
  }
}

SchemaJson RandomSchemas::Number() {
  const bool integer = Chance(50);
  SchemaJson out = {{"type", integer ? "integer" : "number"}};
  const int64_t scales[] = {10, 300, 100'000, 2'000'000'000'000};
  const int64_t scale = scales[Below(4)];
  const auto value = [&]() -> SchemaJson {
    const auto whole = static_cast<int64_t>(Below(static_cast<uint64_t>(scale))) - scale / 3;
    if (integer || Chance(40)) return whole;
    return static_cast<double>(whole) / 64.0 + static_cast<double>(Below(1000)) / 1000.0;
  };
  const SchemaJson first = value();
  const SchemaJson second = value();
  if (Chance(60)) out[Chance(70) ? "minimum" : "exclusiveMinimum"] = std::min(first, second);
  if (Chance(60)) {
    // A gap that holds whole numbers, too.
    const SchemaJson high = std::max(first, second);
    out[Chance(70) ? "maximum" : "exclusiveMaximum"] = high.is_number_integer()
                                                           ? SchemaJson(high.get<int64_t>() + 2)
                                                           : SchemaJson(high.get<double>() + 2.5);
  }
  return out;
}

SchemaJson RandomSchemas::Text() {
  const char* const patterns[] = {"^[a-z]{2,5}$",
                                  "^[A-Z][a-z]+( [A-Z][a-z]+)*$",
                                  "^\\d{3}-\\d{4}$",
                                  "^(a|bc)*d?$",
                                  "^[^\"\\\\]{1,4}$",
                                  "^\\+?[0-9]{7,12}$",
                                  "[0-9]+x",
                                  "^#[0-9a-fA-F]{6}$",
                                  "^v?\\d+\\.\\d+\\.\\d+$",
                                  "^(foo|bar)\\s\\w+$",
                                  "^[äöüß€]+$",
                                  "^.{3}$"};
  const char* const formats[] = {"date", "time", "date-time", "email",
                                 "uuid", "ipv4", "ipv6",      "hostname"};
  SchemaJson out = {{"type", "string"}};
  const uint64_t kind = Below(10);
  if (kind < 3) {
    const uint64_t least = Below(6);
    if (Chance(60)) out["minLength"] = least;
    if (Chance(60)) out["maxLength"] = least + Below(30);
  } else if (kind < 5) {
    out["pattern"] = patterns[Below(std::size(patterns))];
  } else if (kind < 7) {
    out["format"] = formats[Below(std::size(formats))];
  }
  if (Chance(20)) out["description"] = "a text";
  return out;
}

SchemaJson RandomSchemas::Listed() {
  const SchemaJson values[] = {"red", "green", "a\"b\\c\n", "größe", 1,      2.5, -3,
                               true,  nullptr, {{"a", 1}},  {1, 2},  "red ", 100, "\t"};
  if (Chance(25)) return {{"const", values[Below(std::size(values))]}};
  SchemaJson list = SchemaJson::array();
  for (uint64_t i = 0, n = 1 + Below(5); i < n; ++i) {
    const SchemaJson& value = values[Below(std::size(values))];
    if (std::find(list.begin(), list.end(), value) == list.end()) list.push_back(value);
  }
  return {{"enum", list}};
}

SchemaJson RandomSchemas::List(int depth) {
  SchemaJson out = {{"type", "array"}};
  if (Chance(25)) {
    out["prefixItems"] = {Schema(depth - 1), Schema(0)};
    out["items"] = Chance(50) ? SchemaJson(false) : Schema(0);
    return out;
  }
  if (Chance(80)) out["items"] = Schema(depth - 1);
  const uint64_t least = Below(4);
  if (Chance(50)) out["minItems"] = least;
  if (Chance(50)) out["maxItems"] = least + Below(4);
  return out;
}

SchemaJson RandomSchemas::Object(int depth) {
  SchemaJson properties = SchemaJson::object();
  SchemaJson required = SchemaJson::array();
  for (uint64_t i = 0, n = Below(6); i < n; ++i) {
    const std::string name = Name();
    if (properties.contains(name)) continue;
    properties[name] = Schema(depth - 1);
    if (Chance(60)) required.push_back(name);
  }
  SchemaJson out = {{"type", "object"}, {"properties", properties}};
  if (!required.empty()) out["required"] = required;
  if (Chance(40)) out["additionalProperties"] = false;
  if (Chance(20)) out["additionalProperties"] = Schema(0);
  if (Chance(10)) out["title"] = "An object";
  return out;
}

SchemaJson RandomSchemas::Combined(int depth) {
  switch (Below(4)) {
    case 0:
      return {{"anyOf", {Schema(depth - 1), Schema(depth - 1), Schema(0)}}};
    case 1: {
      SchemaJson alternatives = SchemaJson::array();
      for (const char* kind : {"circle", "square", "line"}) {
        alternatives.push_back({{"type", "object"},
                                {"properties", {{"kind", {{"const", kind}}}, {"size", Number()}}},
                                {"required", {"kind", "size"}}});
      }
      return {{"oneOf", alternatives}};
    }
    case 2:
      return {{"allOf",
               {{{"type", "object"}, {"properties", {{"left", Schema(0)}}}, {"required", {"left"}}},
                {{"properties", {{"right", Schema(0)}}}, {"required", {"right"}}}}}};
    default:
      return {{"type", "object"},
              {"properties", {{"a", Schema(0)}, {"b", Schema(0)}, {"c", Schema(0)}}},
              {"anyOf", {{{"required", {"a"}}}, {{"required", {"b", "c"}}}}}};
  }
}

}  // namespace thermocline
