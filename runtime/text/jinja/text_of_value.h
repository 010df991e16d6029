// Values as text: as Python prints them, and as JSON.
#pragma once

#include <optional>
#include <string>

#include "runtime/text/jinja/runtime.h"

namespace thermocline::jinja {

// str(value): a string itself, "" for an undefined value, otherwise repr(value).
std::string TextOf(Runtime& runtime, const Value& value);
// repr(value): strings in quotes, as they stand in a printed list.
std::string ReprOf(Runtime& runtime, const Value& value);
// "1.0", "1e-05", "inf": the shortest digits that read back as the same number.
std::string FloatText(double number);

// json.dumps(value) as transformers calls it: nothing is escaped for HTML.
struct JsonStyle {
  bool ascii_only = false;
  bool sort_keys = false;
  std::optional<std::string> indent = {};  // of one level; without it all is one line
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};
std::string JsonOf(Runtime& runtime, const Value& value, const JsonStyle& style);

}  // namespace thermocline::jinja
