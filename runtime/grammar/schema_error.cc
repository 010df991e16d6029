#include "runtime/grammar/schema_error.h"

#include <fmt/format.h>

#include "runtime/core/error.h"

namespace thermocline {

void FailSchema(const std::string& where, std::string_view keyword, const std::string& expected,
                const std::string& found) {
  throw Error(
      {.what = fmt::format("the JSON schema's \"{}\" at {}", keyword, Printable(where, 200)),
       .expected = expected,
       .found = found});
}

int64_t CountOf(const SchemaJson& schema, const char* keyword, int64_t otherwise,
                const std::string& where) {
  const auto at = schema.find(keyword);
  if (at == schema.end()) return otherwise;
  // JSON has one kind of number: 3.0 is a count, too.
  const double value = at->is_number() ? at->get<double>() : -1;
  if (!(value >= 0 && value <= 1e15) || value != static_cast<double>(static_cast<int64_t>(value))) {
    FailSchema(where, keyword, "a whole number of at least 0", ShortJson(*at));
  }
  return static_cast<int64_t>(value);
}

std::string ShortJson(const SchemaJson& value) {
  return Printable(value.dump(-1, ' ', false, SchemaJson::error_handler_t::replace), 80);
}

}  // namespace thermocline
