#include "runtime/grammar/schema_sets.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "runtime/text/utf8.h"

namespace thermocline {
namespace {

constexpr size_t kMaxAlternatives = 256;
constexpr std::string_view kAllTypes[] = {"object",  "array",   "string", "number",
                                          "integer", "boolean", "null"};

bool IsAnnotation(std::string_view key) {
  for (const std::string_view name :
       {"title", "description", "default", "examples", "example", "deprecated", "readOnly",
        "writeOnly", "$comment", "$schema", "$id", "$anchor", "$defs", "definitions", "strict"}) {
    if (key == name) return true;
  }
  return false;
}

SchemaJson BothOf(const SchemaJson& a, const SchemaJson& b) {
  if (a == b || b == true) return a;
  if (a == true) return b;
  return {{"allOf", SchemaJson::array({a, b})}};
}

// The names that stand in two lists of types.
SchemaJson CommonTypes(const SchemaJson& a, const SchemaJson& b) {
  const auto list = [](const SchemaJson& types) {
    return types.is_array() ? types : SchemaJson::array({types});
  };
  SchemaJson out = SchemaJson::array();
  const SchemaJson others = list(b);
  const auto has = [](const SchemaJson& types, const char* name) {
    return std::find(types.begin(), types.end(), name) != types.end();
  };
  for (const SchemaJson& type : list(a)) {
    const bool both = std::find(others.begin(), others.end(), type) != others.end();
    if (both || (type == "integer" && has(others, "number"))) out.push_back(type);
  }
  for (const SchemaJson& type : others) {
    if (type == "integer" && has(list(a), "number") && !has(out, "integer") &&
        !has(out, "number")) {
      out.push_back(type);
    }
  }
  return out;
}

// Properties of both, each also under what the other schema says of properties it does not name.
SchemaJson MergedProperties(const SchemaJson& a, const SchemaJson& b) {
  const auto properties_of = [](const SchemaJson& schema) {
    const auto at = schema.find("properties");
    return at != schema.end() && at->is_object() ? *at : SchemaJson::object();
  };
  const SchemaJson of_a = properties_of(a);
  const SchemaJson of_b = properties_of(b);
  const auto with = [](const SchemaJson& schema, const SchemaJson& other_schema,
                       const SchemaJson& other, const std::string& name) {
    const auto named = other.find(name);
    if (named != other.end()) return BothOf(schema, *named);
    const auto rest = other_schema.find("additionalProperties");
    if (rest == other_schema.end()) return schema;
    return *rest == false ? *rest : BothOf(schema, *rest);
  };
  SchemaJson out = SchemaJson::object();
  for (const auto& [name, schema] : of_a.items()) out[name] = with(schema, b, of_b, name);
  for (const auto& [name, schema] : of_b.items()) {
    if (!of_a.contains(name)) out[name] = with(schema, a, of_a, name);
  }
  return out;
}

// Merges one keyword that both schemas have, with different values.
void MergeKeyword(const std::string& key, const SchemaJson& value, const std::string& where,
                  SchemaJson* out, bool* possible) {
  SchemaJson& mine = (*out)[key];
  const auto larger = [&](bool keep_larger) {
    if (!mine.is_number() || !value.is_number()) FailSchema(where, key, "a number");
    if ((mine < value) == keep_larger) mine = value;
  };
  if (key == "type") {
    mine = CommonTypes(mine, value);
    *possible = !mine.empty();
  } else if (key == "required" || key == "allOf") {
    if (!mine.is_array() || !value.is_array()) FailSchema(where, key, "a list");
    for (const SchemaJson& item : value) {
      if (key == "allOf" || std::find(mine.begin(), mine.end(), item) == mine.end()) {
        mine.push_back(item);
      }
    }
  } else if (key == "enum") {
    SchemaJson common = SchemaJson::array();
    for (const SchemaJson& item : mine) {
      if (std::find(value.begin(), value.end(), item) != value.end()) common.push_back(item);
    }
    mine = common;
    *possible = !mine.empty();
  } else if (key == "const") {
    *possible = false;
  } else if (key == "minimum" || key == "exclusiveMinimum" || key == "minLength" ||
             key == "minItems" || key == "minProperties") {
    larger(true);
  } else if (key == "maximum" || key == "exclusiveMaximum" || key == "maxLength" ||
             key == "maxItems" || key == "maxProperties") {
    larger(false);
  } else if (key == "items" || key == "additionalProperties" || key == "additionalItems") {
    mine = mine == false || value == false ? SchemaJson(false) : BothOf(mine, value);
  } else if (key == "anyOf") {
    SchemaJson all = SchemaJson::array();
    for (const SchemaJson& x : mine) {
      for (const SchemaJson& y : value) all.push_back(BothOf(x, y));
    }
    if (all.size() > kMaxAlternatives) {
      FailSchema(where, key, fmt::format("at most {} alternatives", kMaxAlternatives));
    }
    mine = all;
  } else if (key == "$ref") {
    SchemaJson& all = (*out)["allOf"];
    all.push_back({{"$ref", value}});
  } else {
    FailSchema(where, key, "one, and not another in a schema that it is joined with");
  }
}

bool IsType(const SchemaJson& value, std::string_view type) {
  if (type == "object") return value.is_object();
  if (type == "array") return value.is_array();
  if (type == "string") return value.is_string();
  if (type == "boolean") return value.is_boolean();
  if (type == "null") return value.is_null();
  if (type == "number") return value.is_number();
  if (!value.is_number()) return false;
  return value.is_number_integer() ||
         value.get<double>() == static_cast<double>(static_cast<int64_t>(value.get<double>()));
}

int64_t CodepointsOf(std::string_view text) {
  int64_t n = 0;
  for (; !text.empty(); ++n) text.remove_prefix(FirstUtf8Char(text).n_bytes);
  return n;
}

const SchemaJson* Find(const SchemaJson& schema, const char* key) {
  if (!schema.is_object()) return nullptr;
  const auto at = schema.find(key);
  return at == schema.end() ? nullptr : &*at;
}

// The values that a schema lists, or nothing where it lists none.
const SchemaJson* ListedValues(const SchemaJson& schema, SchemaJson* memory) {
  if (const SchemaJson* value = Find(schema, "const")) {
    *memory = SchemaJson::array({*value});
    return memory;
  }
  const SchemaJson* values = Find(schema, "enum");
  return values != nullptr && values->is_array() ? values : nullptr;
}

bool Requires(const SchemaJson& schema, const std::string& name) {
  const SchemaJson* required = Find(schema, "required");
  return required != nullptr && required->is_array() &&
         std::find(required->begin(), required->end(), name) != required->end();
}

const SchemaJson& Followed(const SchemaJson& root, const SchemaJson& schema) {
  const SchemaJson* at = &schema;
  for (int depth = 0; depth < 8; ++depth) {
    const SchemaJson* ref = Find(*at, "$ref");
    if (ref == nullptr) break;
    at = &ResolveRef(root, *ref, "#");
  }
  return *at;
}

// Whether what is made for `made` is refused by `other`: it lacks what that requires, or always has
// what that forbids.
bool ObjectFails(const SchemaJson& made, const SchemaJson& other) {
  const auto names = [](const SchemaJson& schema, const std::string& name) {
    const SchemaJson* properties = Find(schema, "properties");
    return properties != nullptr && properties->is_object() && properties->contains(name);
  };
  const SchemaJson* rest = Find(made, "additionalProperties");
  const bool adds = rest != nullptr && *rest != false;
  if (const SchemaJson* required = Find(other, "required"); required != nullptr && !adds) {
    for (const SchemaJson& name : *required) {
      if (!name.is_string()) continue;
      if (!names(made, name) && !Requires(made, name) && Find(made, "properties") != nullptr) {
        return true;
      }
    }
  }
  const SchemaJson* other_rest = Find(other, "additionalProperties");
  const SchemaJson* required = Find(made, "required");
  if (other_rest == nullptr || *other_rest != false || required == nullptr) return false;
  return std::any_of(required->begin(), required->end(), [&](const SchemaJson& name) {
    return name.is_string() && !names(other, name);
  });
}

bool DisjointAt(const SchemaJson& root, const SchemaJson& a_ref, const SchemaJson& b_ref,
                int depth) {
  const SchemaJson& a = Followed(root, a_ref);
  const SchemaJson& b = Followed(root, b_ref);
  if (a == false || b == false) return true;
  if (!a.is_object() || !b.is_object() || depth > 4) return false;
  const std::vector<std::string> a_types = TypesOf(a, "#");
  const std::vector<std::string> b_types = TypesOf(b, "#");
  const auto number = [](const std::string& type) {
    return type == "integer" ? std::string("number") : type;
  };
  bool both_objects = false;
  bool common = false;
  for (const std::string& x : a_types) {
    for (const std::string& y : b_types) {
      if (number(x) != number(y)) continue;
      if (x == "object") {
        both_objects = true;
      } else {
        common = true;
      }
    }
  }
  if (!common && !both_objects) return true;
  SchemaJson a_memory;
  SchemaJson b_memory;
  const SchemaJson* a_values = ListedValues(a, &a_memory);
  const SchemaJson* b_values = ListedValues(b, &b_memory);
  if (a_values != nullptr && b_values != nullptr) {
    return std::none_of(a_values->begin(), a_values->end(), [&](const SchemaJson& value) {
      return std::find(b_values->begin(), b_values->end(), value) != b_values->end();
    });
  }
  if (common) return false;
  const SchemaJson* a_properties = Find(a, "properties");
  const SchemaJson* b_properties = Find(b, "properties");
  if (a_properties != nullptr && b_properties != nullptr) {
    for (const auto& [name, schema] : a_properties->items()) {
      const SchemaJson* other = Find(*b_properties, name.c_str());
      if (other == nullptr || !Requires(a, name) || !Requires(b, name)) continue;
      if (DisjointAt(root, schema, *other, depth + 1)) return true;
    }
  }
  return ObjectFails(a, b) && ObjectFails(b, a);
}

}  // namespace

const SchemaJson& ResolveRef(const SchemaJson& root, const SchemaJson& ref,
                             const std::string& where) {
  const auto fail = [&]() {
    FailSchema(where, "$ref", "a place in this schema that is there, as #/$defs/name",
               ShortJson(ref));
  };
  if (!ref.is_string()) fail();
  std::string_view path = ref.get_ref<const std::string&>();
  if (path.empty() || path.front() != '#') fail();
  path.remove_prefix(1);
  const SchemaJson* at = &root;
  while (!path.empty()) {
    if (path.front() != '/') fail();
    path.remove_prefix(1);
    const std::string_view part = path.substr(0, path.find('/'));
    path.remove_prefix(part.size());
    std::string key;
    for (size_t i = 0; i < part.size(); ++i) {
      const bool escaped = part[i] == '~' && i + 1 < part.size();
      key += escaped ? (part[i + 1] == '1' ? '/' : '~') : part[i];
      if (escaped) ++i;
    }
    const SchemaJson* next = nullptr;
    if (at->is_object()) {
      next = Find(*at, key.c_str());
    } else if (at->is_array() && !key.empty() && key.size() < 6 &&
               key.find_first_not_of("0123456789") == std::string::npos) {
      const auto index = static_cast<size_t>(std::stoul(key));
      if (index < at->size()) next = &(*at)[index];
    }
    if (next == nullptr) fail();
    at = next;
  }
  return *at;
}

SchemaJson MergedSchema(const SchemaJson& a, const SchemaJson& b, const std::string& where) {
  if (a == false || b == false) return false;
  if (a == true) return b;
  if (b == true) return a;
  if (!a.is_object() || !b.is_object()) {
    FailSchema(where, "allOf", "schemas: objects or booleans", ShortJson(a.is_object() ? b : a));
  }
  SchemaJson out = a;
  bool possible = true;
  for (const auto& [key, value] : b.items()) {
    if (key == "properties") continue;
    if (!out.contains(key)) {
      out[key] = value;
    } else if (out[key] != value && !IsAnnotation(key)) {
      MergeKeyword(key, value, where, &out, &possible);
      if (!possible) return false;
    }
  }
  if (a.contains("properties") || b.contains("properties")) {
    out["properties"] = MergedProperties(a, b);
  }
  return out;
}

std::vector<std::string> TypesOf(const SchemaJson& schema, const std::string& where) {
  std::vector<std::string> types;
  const auto add = [&](const SchemaJson& type) {
    if (!type.is_string() || std::find(std::begin(kAllTypes), std::end(kAllTypes),
                                       type.get_ref<const std::string&>()) == std::end(kAllTypes)) {
      FailSchema(where, "type",
                 "object, array, string, number, integer, boolean or null, or a list of them",
                 ShortJson(type));
    }
    types.push_back(type);
  };
  if (const SchemaJson* type = Find(schema, "type")) {
    if (type->is_array()) {
      for (const SchemaJson& one : *type) add(one);
    } else {
      add(*type);
    }
    return types;
  }
  SchemaJson memory;
  if (const SchemaJson* values = ListedValues(schema, &memory)) {
    for (const std::string_view type : kAllTypes) {
      const bool any = std::any_of(values->begin(), values->end(),
                                   [&](const SchemaJson& value) { return IsType(value, type); });
      if (any && type != "integer") types.emplace_back(type);
    }
    return types;
  }
  const auto has_any = [&](std::initializer_list<const char*> keys) {
    return std::any_of(keys.begin(), keys.end(),
                       [&](const char* key) { return schema.contains(key); });
  };
  if (has_any({"properties", "required", "additionalProperties", "minProperties", "maxProperties",
               "propertyNames"})) {
    types.emplace_back("object");
  }
  if (has_any({"items", "prefixItems", "minItems", "maxItems", "additionalItems"})) {
    types.emplace_back("array");
  }
  if (has_any({"pattern", "format", "minLength", "maxLength"})) types.emplace_back("string");
  if (has_any({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})) {
    types.emplace_back("number");
  }
  if (types.empty()) {
    for (const std::string_view type : kAllTypes) {
      if (type != "integer") types.emplace_back(type);
    }
  }
  return types;
}

bool FitsSchema(const SchemaJson& value, const SchemaJson& schema, const std::string& where) {
  if (schema.contains("type")) {
    const std::vector<std::string> types = TypesOf(schema, where);
    if (std::none_of(types.begin(), types.end(),
                     [&](const std::string& type) { return IsType(value, type); })) {
      return false;
    }
  }
  if (const SchemaJson* values = Find(schema, "enum"); values != nullptr && values->is_array()) {
    if (std::find(values->begin(), values->end(), value) == values->end()) return false;
  }
  if (const SchemaJson* constant = Find(schema, "const"); constant != nullptr) {
    if (*constant != value) return false;
  }
  if (value.is_number()) {
    const auto at = [&](const char* key) {
      const SchemaJson* bound = Find(schema, key);
      return bound != nullptr && bound->is_number() ? bound : nullptr;
    };
    if (const SchemaJson* bound = at("minimum"); bound && value < *bound) return false;
    if (const SchemaJson* bound = at("maximum"); bound && value > *bound) return false;
    if (const SchemaJson* bound = at("exclusiveMinimum"); bound && value <= *bound) return false;
    if (const SchemaJson* bound = at("exclusiveMaximum"); bound && value >= *bound) return false;
  }
  if (value.is_string()) {
    for (const char* key : {"pattern", "format"}) {
      if (schema.contains(key)) FailSchema(where, key, "no enum or const of texts beside it");
    }
    const int64_t length = CodepointsOf(value.get_ref<const std::string&>());
    if (length < CountOf(schema, "minLength", 0, where)) return false;
    if (length > CountOf(schema, "maxLength", INT64_MAX, where)) return false;
  }
  if (value.is_array() || value.is_object()) {
    for (const char* key : {"properties", "required", "additionalProperties", "items",
                            "prefixItems", "minItems", "maxItems"}) {
      if (schema.contains(key)) {
        FailSchema(where, key, "no enum or const of objects or arrays beside it");
      }
    }
  }
  return true;
}

bool AreDisjoint(const SchemaJson& root, const SchemaJson& a, const SchemaJson& b) {
  return DisjointAt(root, a, b, 0);
}

}  // namespace thermocline
