#include "runtime/grammar/schema_formats.h"

#include <fmt/format.h>

#include <utility>

namespace thermocline {
namespace {

// Leap years have a 29th of February. Years begin at 1000.
const std::string kDate =
    "(([1-9][0-9]{3}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)"
    "|02-(0[1-9]|1[0-9]|2[0-8])))"
    "|([1-9][0-9](0[48]|[2468][048]|[13579][26])|([2468][048]|[13579][26])00)-02-29)";
const std::string kTime =
    "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?"
    "(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])";
const std::string kByte = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
const std::string kLabel = "[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?";
const std::string kHost = fmt::format("{0}(\\.{0}){{0,3}}", kLabel);

const std::pair<std::string_view, std::string> kFormats[] = {
    {"date", kDate},
    {"time", kTime},
    {"date-time", kDate + "T" + kTime},
    {"duration",
     "P([0-9]{1,4}W|([0-9]{1,4}Y([0-9]{1,3}M([0-9]{1,3}D)?)?|[0-9]{1,3}M([0-9]{1,3}D)?|[0-9]{1,3}D)"
     "(T([0-9]{1,3}H([0-9]{1,3}M([0-9]{1,3}S)?)?|[0-9]{1,3}M([0-9]{1,3}S)?|[0-9]{1,3}S))?"
     "|T([0-9]{1,3}H([0-9]{1,3}M([0-9]{1,3}S)?)?|[0-9]{1,3}M([0-9]{1,3}S)?|[0-9]{1,3}S))"},
    {"email",
     fmt::format("[A-Za-z0-9_+-]{{1,32}}(\\.[A-Za-z0-9_+-]{{1,32}}){{0,2}}@{0}(\\.{0}){{1,2}}",
                 kLabel)},
    {"hostname", kHost},
    {"ipv4", fmt::format("{0}(\\.{0}){{3}}", kByte)},
    {"ipv6", "[0-9a-f]{1,4}(:[0-9a-f]{1,4}){7}"},
    {"uri",
     fmt::format("https?://{}(/[A-Za-z0-9._~-]{{1,64}}){{0,8}}(\\?[A-Za-z0-9._~=&-]{{1,64}})?"
                 "(#[A-Za-z0-9._~-]{{1,64}})?",
                 kHost)},
    {"uuid", "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"},
};

}  // namespace

std::optional<std::string> FormatPattern(std::string_view format) {
  for (const auto& [name, pattern] : kFormats) {
    if (name == format) return "^(" + pattern + ")$";
  }
  return std::nullopt;
}

std::string FormatNames() {
  std::string names;
  for (const auto& entry : kFormats) {
    if (!names.empty()) names += ", ";
    names += entry.first;
  }
  return names;
}

}  // namespace thermocline
