#include "runtime/grammar/schema_objects.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <string_view>

#include "runtime/text/utf8.h"

namespace thermocline {
namespace {

// The keys that are not among some names, from the first character on: as long as a key is the
// beginning of a name it has no escapes, so that it cannot be that name written otherwise.
struct NameNode {
  std::map<uint32_t, NameNode> next;
  bool is_name = false;
};

void AddName(std::string_view name, NameNode* node) {
  for (; !name.empty(); name.remove_prefix(FirstUtf8Char(name).n_bytes)) {
    const uint32_t c = FirstUtf8Char(name).codepoint;
    if (c < 0x20 || c == '"' || c == '\\') return;  // such a key would need an escape
    node = &node->next[c];
  }
  node->is_name = true;
}

std::string OtherNames(const NameNode& node, JsonRules& rules) {
  std::vector<CodepointRange> taken = {{0, 0x1F}, {'"', '"'}, {'\\', '\\'}, {0x7F, 0x7F}};
  std::string body;
  for (const auto& [c, next] : node.next) {
    taken.push_back({c, c});
    body += fmt::format("{} {} | ", GbnfSet({{c, c}}), OtherNames(next, rules));
  }
  body += fmt::format("{} {}", GbnfSet(ComplementOf(taken)), rules.StringRest());
  if (!node.is_name) body += fmt::format(R"gbnf( | "\"" {})gbnf", rules.Space());
  return rules.writer().Add("key", body);
}

std::string RestPair(const ObjectParts& parts, JsonRules& rules) {
  std::string key = rules.String();
  if (!parts.properties.empty()) {
    NameNode names;
    for (const ObjectParts::Property& property : parts.properties) AddName(property.name, &names);
    key = R"gbnf("\"" )gbnf" + OtherNames(names, rules);
  }
  return rules.writer().Add("pair",
                            fmt::format(R"gbnf({} ":" {} {})gbnf", key, rules.Space(), parts.rest));
}

std::string Counts(int64_t least, int64_t most) {
  return fmt::format("{{{},{}}}", std::max<int64_t>(least, 0),
                     most < 0 ? "" : std::to_string(most));
}

}  // namespace

// What follows a property is a rule for each place among them, each used at the end of the one
// before: together they are as long as the object.
std::string ObjectRule(const ObjectParts& parts, JsonRules& rules) {
  GbnfWriter& writer = rules.writer();
  const std::string space = rules.Space();
  const std::string end = fmt::format(R"gbnf("}}" {})gbnf", space);
  std::string after = end;  // where a property stands before
  std::string first = end;  // where none does
  if (!parts.rest.empty()) {
    const std::string pair = RestPair(parts, rules);
    const std::string more = fmt::format(R"gbnf(("," {} {}))gbnf", space, pair);
    after = more + Counts(parts.least_rest, parts.most_rest) + " " + end;
    const int64_t most = parts.most_rest;
    const std::string some = fmt::format(
        "{} {}{} {}", pair, more, Counts(parts.least_rest - 1, most < 0 ? most : most - 1), end);
    if (most == 0) {
      first = end;
    } else {
      first = parts.least_rest > 0 ? some : fmt::format("{} | {}", end, some);
    }
  }
  std::string after_rule = writer.Add("rest", after);
  std::string first_rule = writer.Add("first", first);
  for (size_t i = parts.properties.size(); i-- > 0;) {
    const ObjectParts::Property& property = parts.properties[i];
    const std::string name = nlohmann::json(property.name)
                                 .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    const std::string pair =
        fmt::format(R"gbnf({} {} ":" {} {})gbnf", GbnfText(name), space, space, property.value);
    const std::string behind = after_rule;
    first_rule = writer.Add("first", property.required
                                         ? fmt::format("{} {}", pair, behind)
                                         : fmt::format("{} {} | {}", pair, behind, first_rule));
    after_rule = writer.Add(
        "rest", property.required ? fmt::format(R"gbnf("," {} {} {})gbnf", space, pair, behind)
                                  : fmt::format(R"gbnf(("," {} {})? {})gbnf", space, pair, behind));
  }
  return writer.Add("object", fmt::format(R"gbnf("{{" {} {})gbnf", space, first_rule));
}

std::string ArrayRule(const ArrayParts& parts, JsonRules& rules) {
  const std::string space = rules.Space();
  const auto n_first = static_cast<int64_t>(parts.first.size());
  const bool more = !parts.item.empty() && (parts.most < 0 || parts.most > n_first);
  if ((parts.most >= 0 && parts.most < parts.least) || (!more && parts.least > n_first)) {
    return rules.Nothing();
  }
  std::string body = fmt::format(R"gbnf("[" {})gbnf", space);
  for (size_t i = 0; i < parts.first.size(); ++i) {
    body +=
        i == 0 ? " " + parts.first[i] : fmt::format(R"gbnf( "," {} {})gbnf", space, parts.first[i]);
  }
  if (more) {
    const std::string next = fmt::format(R"gbnf(("," {} {}))gbnf", space, parts.item);
    if (n_first > 0) {
      body +=
          " " + next + Counts(parts.least - n_first, parts.most < 0 ? -1 : parts.most - n_first);
    } else {
      const std::string counts =
          Counts(parts.least - 1, parts.most < 0 ? parts.most : parts.most - 1);
      body += fmt::format(" ({} {}{}){}", parts.item, next, counts, parts.least > 0 ? "" : "?");
    }
  }
  return rules.writer().Add("array", fmt::format(R"gbnf({} "]" {})gbnf", body, space));
}

}  // namespace thermocline
