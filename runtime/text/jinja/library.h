// What templates find by name: filters, tests, methods, global functions.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "runtime/text/jinja/runtime.h"

namespace thermocline::jinja {

// Each returns null where there is none of that name. A test returns a bool.
Function FindFilter(const std::string& name);
Function FindTest(const std::string& name);
Function FindStringMethod(const std::string& name);
Function FindListMethod(const std::string& name);
Function FindDictMethod(const std::string& name);

// Throw Failure where there is none.
Value ApplyFilter(Runtime& runtime, const std::string& name, const Value& input,
                  const Arguments& arguments);
bool ApplyTest(Runtime& runtime, const std::string& name, const Value& input,
               const Arguments& arguments);

// range, dict, namespace, raise_exception, strftime_now, joiner, cycler.
std::vector<std::pair<std::string, Value>> GlobalFunctions(Runtime& runtime);

// The parts of the table of filters, one per file; null where there is none.
Function FindTextFilter(const std::string& name);
Function FindNumberFilter(const std::string& name);
Function FindListFilter(const std::string& name);
Function FindSelectFilter(const std::string& name);

struct FunctionRow {
  std::string_view name;
  Function function;
};

template <size_t kRows>
Function FindRow(const FunctionRow (&rows)[kRows], const std::string& name) {
  for (const FunctionRow& row : rows) {
    if (row.name == name) return row.function;
  }
  return nullptr;
}

// Arguments as numbers and texts. `what` is what a message calls them.
int64_t RequireInteger(const Value& value, const std::string& what);
const std::string& RequireString(const Value& value, const std::string& what);

}  // namespace thermocline::jinja
