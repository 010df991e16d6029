// Python's two ways to put values into a text.
#pragma once

#include <string>

#include "runtime/text/jinja/runtime.h"

namespace thermocline::jinja {

// One field: how a value is written and how wide.
struct FieldStyle {
  bool left = false;       // fill behind the text
  bool center = false;     // fill at both sides
  bool zeros = false;      // fill with 0 behind the sign
  std::string fill = " ";  // a character
  char sign = '-';         // '+': also before numbers that are not negative; ' ': a blank there
  bool alternate = false;  // 0x before hexadecimal digits
  char grouping = '\0';    // between thousands
  int64_t width = 0;
  int64_t precision = -1;  // -1: none
};

// Returns a number as `type` says: d, x, X, o, b, e, E, f, F, g, G, %. Throws Failure for others.
std::string NumberField(const Value& value, char type, const FieldStyle& style);
// Fills the text up to the field's width, counted in characters. `right`: where it stands unless
// the style says otherwise.
std::string FillField(Runtime& runtime, const std::string& text, const FieldStyle& style,
                      bool right);

// "{} of {total:>5}".format(...).
Value FormatBraces(Runtime& runtime, const std::string& format, const Arguments& arguments);

}  // namespace thermocline::jinja
