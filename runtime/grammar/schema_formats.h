// Formats of strings, by their names in JSON schemas.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace thermocline {

// Returns a regular expression (schema_pattern.h) of texts of a format: not of all of them, but of
// nothing else. Nothing for a format that is not known.
std::optional<std::string> FormatPattern(std::string_view format);

// "date, time, ..."
std::string FormatNames();

}  // namespace thermocline
