// Lays out --help: descriptions wrapped to 100 columns, types without the checks' own wording.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace thermocline {

class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter() { column_width(kNameColumns); }

  std::string make_option(const CLI::Option* option, bool is_positional) const override;
  std::string make_option_opts(const CLI::Option* option) const override;
  std::string make_subcommand(const CLI::App* verb) const override;

 private:
  static constexpr size_t kNameColumns = 32;
};

// Returns `text` in lines of at most `columns`, cut at spaces; every line but the first starts with
// `indent` spaces.
std::string WrapText(const std::string& text, size_t columns, size_t indent);

}  // namespace thermocline
