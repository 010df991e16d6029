// How json_schema.cc makes rules of schemas: the parts that its sources share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "runtime/grammar/json_rules.h"
#include "runtime/grammar/schema_error.h"
#include "runtime/grammar/schema_objects.h"

namespace thermocline {

inline constexpr int kMaxSchemaDepth = 100;

// Returns the value of a keyword, or null.
inline const SchemaJson* FindKeyword(const SchemaJson& schema, const char* key) {
  const auto at = schema.find(key);
  return at == schema.end() ? nullptr : &*at;
}

class SchemaConverter {
 public:
  // Both must outlive the converter.
  SchemaConverter(const SchemaJson& root, std::string root_where, JsonRules& rules)
      : root_(root), root_where_(std::move(root_where)), rules_(rules) {}

  // Returns the name of the whole schema's rule. Throws Error.
  std::string ConvertRoot() { return Convert(root_, root_where_); }

 private:
  // Returns the name of the schema's rule.
  std::string Convert(const SchemaJson& schema, const std::string& where);
  std::string ConvertAny(const SchemaJson& schema, const std::string& where);
  static void CheckKeywords(const SchemaJson& schema, const std::string& where);
  std::string ConvertRef(const SchemaJson& schema, const SchemaJson& ref, const std::string& where);
  [[noreturn]] static void FailLoop(const std::string& where, const std::string& path);
  // Whether a schema says more than what is for readers.
  static bool HasRules(const SchemaJson& schema);
  // Schemas that are put together from others come up again where they are recursive.
  std::string Memoized(const SchemaJson& schema, const std::string& where);
  std::string ConvertJoined(const SchemaJson& schema, const std::string& where);
  void CheckDisjoint(const std::vector<SchemaJson>& alternatives, const std::string& where) const;
  static SchemaJson WithoutDefinitions(SchemaJson schema);
  // Joins two schemas, references followed.
  SchemaJson Joined(const SchemaJson& a, const SchemaJson& b, const std::string& where) const;
  SchemaJson WithoutRef(const SchemaJson& schema, const std::string& where) const;
  std::string ConvertAllOf(const SchemaJson& schema, const std::string& where);
  static const SchemaJson& ListOf(const SchemaJson& schema, const char* key,
                                  const std::string& where);
  std::string ConvertPlain(const SchemaJson& schema, const std::string& where);
  std::string ConvertListed(const SchemaJson& schema, const std::string& where);
  std::string ConvertType(const SchemaJson& schema, const std::string& type,
                          const std::string& where);
  // What lies within a container may be the container again.
  std::string ConvertWithin(const SchemaJson& schema, const std::string& where);
  std::string ConvertString(const SchemaJson& schema, const std::string& where);
  std::string FormatBody(const std::string& format, const std::string& where);
  std::string ConvertArray(const SchemaJson& schema, const std::string& where);
  std::string ConvertObject(const SchemaJson& schema, const std::string& where);
  // Names that a model writes may be equal, so that only an upper bound on their number can be
  // kept.
  static void LimitCounts(const SchemaJson& schema, const std::string& where, ObjectParts* parts);

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

}  // namespace thermocline
