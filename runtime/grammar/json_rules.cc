#include "runtime/grammar/json_rules.h"

#include <fmt/format.h>

#include <array>
#include <utility>

namespace thermocline {
namespace {

// A number has at most 16 digits on each side of the point, and an exponent of at most two: a
// double holds every such number.
constexpr std::string_view kIntegral = R"gbnf("-"? ("0" | [1-9] [0-9]{0,15}))gbnf";
constexpr std::string_view kFractional = R"gbnf(("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,2})?)gbnf";

// A character of UTF-16 that is none by itself comes with its other half.
constexpr std::string_view kChar =
    R"gbnf([^"\\\x7F\x00-\x1F] | "\\" (["\\/bfnrt] | "u" ([0-9a-cA-Ce-fE-F] [0-9a-fA-F]{3})gbnf"
    R"gbnf( | [dD] [0-7] [0-9a-fA-F]{2} | [dD] [89abAB] [0-9a-fA-F]{2} "\\u" [dD] [c-fC-F])gbnf"
    R"gbnf( [0-9a-fA-F]{2})))gbnf";

constexpr std::pair<uint32_t, std::string_view> kEscapes[] = {
    {'"', R"gbnf("\\\"")gbnf"}, {'\\', R"gbnf("\\\\")gbnf"}, {'\b', R"gbnf("\\b")gbnf"},
    {'\f', R"gbnf("\\f")gbnf"}, {'\n', R"gbnf("\\n")gbnf"},  {'\r', R"gbnf("\\r")gbnf"},
    {'\t', R"gbnf("\\t")gbnf"}};

constexpr uint32_t kMaxListed = 4;

std::vector<CodepointRange> Without(const std::vector<CodepointRange>& set,
                                    const std::vector<CodepointRange>& others) {
  std::vector<CodepointRange> joined = ComplementOf(set);
  joined.insert(joined.end(), others.begin(), others.end());
  return ComplementOf(std::move(joined));
}

}  // namespace

std::string JsonRules::Space() {
  return writer_.Add("space", R"gbnf(| " " | "\n"{1,2} [ \t]{0,20})gbnf");
}

std::string JsonRules::Char() { return writer_.Add("char", kChar); }

std::string JsonRules::StringRest() {
  return writer_.Add("string-rest", fmt::format(R"gbnf({}* "\"" {})gbnf", Char(), Space()));
}

std::string JsonRules::String() {
  return writer_.Add("string", fmt::format(R"gbnf("\"" {})gbnf", StringRest()));
}

std::string JsonRules::Number() {
  return writer_.Add("number", fmt::format("{} {} {}", kIntegral, kFractional, Space()));
}

std::string JsonRules::Integer() {
  return writer_.Add("integer", fmt::format("{} {}", kIntegral, Space()));
}

std::string JsonRules::Boolean() {
  return writer_.Add("boolean", fmt::format(R"gbnf(("true" | "false") {})gbnf", Space()));
}

std::string JsonRules::Null() {
  return writer_.Add("null", fmt::format(R"gbnf("null" {})gbnf", Space()));
}

std::string JsonRules::Nothing() { return writer_.Add("nothing", "[]"); }

void JsonRules::AddValues() {
  if (!value_.empty()) return;
  value_ = writer_.Reserve("value");
  object_ = writer_.Reserve("object");
  array_ = writer_.Reserve("array");
  const std::string space = Space();
  const std::string pair = fmt::format(R"gbnf({} ":" {} {})gbnf", String(), space, value_);
  writer_.Define(object_,
                 fmt::format(R"gbnf("{{" {0} ({1} ("," {0} {1})*)? "}}" {0})gbnf", space, pair));
  writer_.Define(array_,
                 fmt::format(R"gbnf("[" {0} ({1} ("," {0} {1})*)? "]" {0})gbnf", space, value_));
  writer_.Define(value_, fmt::format("{} | {} | {} | {} | {} | {}", object_, array_, String(),
                                     Number(), Boolean(), Null()));
}

std::string JsonRules::Object() {
  AddValues();
  return object_;
}

std::string JsonRules::Array() {
  AddValues();
  return array_;
}

std::string JsonRules::Value() {
  AddValues();
  return value_;
}

std::string JsonCharSet(const std::vector<CodepointRange>& ranges) {
  const std::vector<CodepointRange> set = NormalizedRanges(ranges);
  const auto has = [&set](uint32_t c) {
    for (const CodepointRange& range : set) {
      if (c >= range.first && c <= range.last) return true;
    }
    return false;
  };
  std::string out;
  const auto add = [&out](std::string_view part) {
    if (!out.empty()) out += " | ";
    out += part;
  };
  const std::vector<CodepointRange> plain =
      Without(set, {{0, 0x1F}, {'"', '"'}, {'\\', '\\'}, {0xD800, 0xDFFF}});
  if (!plain.empty()) add(GbnfSet(plain));
  std::array<bool, 0x20> escaped{};
  for (const auto& [c, escape] : kEscapes) {
    if (has(c)) add(escape);
    if (c < 0x20) escaped[c] = true;
  }
  for (const CodepointRange& range : set) {
    if (range.last - range.first >= kMaxListed) continue;
    for (uint32_t c = range.first; c <= range.last; ++c) {
      if (c < 0x20 && !escaped[c]) add(fmt::format("\"\\\\u{:04x}\"", c));
    }
  }
  return out.empty() ? "[]" : fmt::format("({})", out);
}

}  // namespace thermocline
