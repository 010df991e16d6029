#include "tools/verbs/help_formatter.h"

#include <fmt/format.h>

#include <sstream>

namespace thermocline {
namespace {

constexpr size_t kColumns = 100;

// Returns "  names      description", with the description on a line of its own when the names are
// long.
std::string Entry(const std::string& names, const std::string& description, size_t name_columns) {
  std::string line = "  " + names;
  if (line.size() + 2 > name_columns) {
    line += "\n" + std::string(name_columns, ' ');
  } else {
    line.resize(name_columns, ' ');
  }
  return line + WrapText(description, kColumns - name_columns, name_columns) + "\n";
}

}  // namespace

std::string WrapText(const std::string& text, size_t columns, size_t indent) {
  std::istringstream words(text);
  std::string out;
  std::string word;
  size_t used = 0;
  while (words >> word) {
    if (used > 0 && used + 1 + word.size() > columns) {
      out += "\n" + std::string(indent, ' ');
      used = 0;
    }
    out += (used > 0 ? " " : "") + word;
    used += (used > 0 ? 1 : 0) + word.size();
  }
  return out;
}

std::string HelpFormatter::make_option(const CLI::Option* option, bool is_positional) const {
  return Entry(make_option_name(option, is_positional) + make_option_opts(option),
               make_option_desc(option), kNameColumns);
}

std::string HelpFormatter::make_option_opts(const CLI::Option* option) const {
  std::string text;
  // The part before the colon is ours, what follows are the checks' descriptions.
  const std::string type = option->get_type_name();
  if (option->get_type_size() != 0 && !type.empty()) text += " " + type.substr(0, type.find(':'));
  if (option->get_required()) text += " (required)";
  return text;
}

std::string HelpFormatter::make_subcommand(const CLI::App* verb) const {
  return Entry(verb->get_name(), verb->get_description(), 16);
}

}  // namespace thermocline
