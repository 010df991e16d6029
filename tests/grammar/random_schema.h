// Random JSON schemas of the kinds that public suites have: types, bounds, enums, objects with
// required and optional properties, references, combinations.
#pragma once

#include <random>
#include <string>

#include "runtime/grammar/schema_error.h"

namespace thermocline {

class RandomSchemas {
 public:
  explicit RandomSchemas(uint64_t seed) : random_(seed) {}
  SchemaJson Next();
  std::mt19937_64& random() { return random_; }

 private:
  uint64_t Below(uint64_t n) { return random_() % n; }  // the same on every machine
  bool Chance(uint64_t percent) { return Below(100) < percent; }
  std::string Name();
  SchemaJson Schema(int depth);
  SchemaJson Number();
  SchemaJson Text();
  SchemaJson Listed();
  SchemaJson List(int depth);
  SchemaJson Object(int depth);
  SchemaJson Combined(int depth);

  std::mt19937_64 random_;
};

}  // namespace thermocline
