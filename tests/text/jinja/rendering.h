// Templates rendered in one call, for tests.
#pragma once

#include <ctime>
#include <nlohmann/json.hpp>
#include <string>

#include "runtime/core/error.h"
#include "runtime/text/jinja/chat_template.h"

namespace thermocline {

// The clock of the goldens: Saturday, 2026-01-31 12:00.
inline std::tm GoldenTime() {
  std::tm time{};
  time.tm_year = 126;
  time.tm_mday = 31;
  time.tm_hour = 12;
  time.tm_wday = 6;
  time.tm_yday = 30;
  return time;
}

inline std::string Rendered(const std::string& source, const nlohmann::ordered_json& variables = {},
                            const jinja::Limits& limits = {}) {
  return ChatTemplate(source, "test.jinja", limits).RenderVariables(variables, GoldenTime());
}

// Returns the message of the Error that the template ends with, or "rendered: ..." and its text.
inline std::string RenderingError(const std::string& source,
                                  const nlohmann::ordered_json& variables = {},
                                  const jinja::Limits& limits = {}) {
  try {
    return "rendered: " + Rendered(source, variables, limits);
  } catch (const Error& error) {
    return error.what();
  }
}

}  // namespace thermocline
