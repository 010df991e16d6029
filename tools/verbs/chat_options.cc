#include "tools/verbs/chat_options.h"

#include <fmt/format.h>

#include <filesystem>
#include <string_view>

#include "runtime/chat/named_templates.h"
#include "runtime/core/error.h"
#include "runtime/text/jinja/model_template.h"
#include "tools/verbs/cli_options.h"

namespace thermocline {
namespace {

using Json = nlohmann::ordered_json;

std::string ReadTemplateSource(const std::string& name_or_path) {
  if (const auto named = NamedTemplate(name_or_path)) return std::string(*named);
  std::error_code ignored;
  if (name_or_path != "-" && !std::filesystem::exists(name_or_path, ignored)) {
    throw Error({.path = name_or_path,
                 .what = "no such chat template",
                 .expected = "a file, or one of " + NamedTemplateList(),
                 .found = "neither"});
  }
  return ReadTextFile(name_or_path, kMaxPromptBytes);
}

Json ReadVariables(const TemplateOptions& options) {
  Json variables = Json::object();
  if (!options.variables.empty()) {
    const size_t first = options.variables.find_first_not_of(" \t\r\n");
    const bool is_json = first != std::string::npos && options.variables[first] == '{';
    const std::string name = is_json ? "the template's variables" : options.variables;
    const std::string text =
        is_json ? options.variables : ReadTextFile(options.variables, kMaxPromptBytes);
    variables = ParseJson(text, name);
    if (!variables.is_object()) {
      throw Error({.path = name,
                   .what = "not the variables of a template",
                   .expected = R"(an object, {"name": value})",
                   .found = variables.type_name()});
    }
  }
  if (!options.reasoning.empty()) variables["enable_thinking"] = options.reasoning == "on";
  return variables;
}

}  // namespace

nlohmann::ordered_json ParseJson(const std::string& text, const std::string& name) {
  try {
    return nlohmann::ordered_json::parse(text);
  } catch (const nlohmann::json::exception& error) {
    throw Error({.path = name, .what = "not JSON", .found = Printable(error.what(), 200)});
  }
}

void AddTemplateOptions(CLI::App& verb, TemplateOptions* options) {
  verb.add_option("--chat-template", options->name_or_path,
                  "Chat template in place of the model's: a Jinja file, or " + NamedTemplateList() +
                      " (a file of such a name is ./NAME)")
      ->type_name("NAME|FILE");
  verb.add_option("--template-vars", options->variables,
                  R"(Further variables of the template, an object: {"name": value})")
      ->type_name("JSON|FILE");
  verb.add_option("--reasoning", options->reasoning,
                  "Whether a model that can reason before it replies does: sets the variable "
                  "enable_thinking, which templates of such models ask for (default: not set)")
      ->type_name("on|off")
      ->check(CLI::IsMember({"on", "off"}));
}

std::optional<ChatFormatOptions> ReadTemplate(const TemplateOptions& options,
                                              const GgufReader* gguf) {
  ChatFormatOptions format;
  if (!options.name_or_path.empty()) {
    format.name = options.name_or_path;
    format.source = ReadTemplateSource(options.name_or_path);
  } else if (gguf != nullptr) {
    format.name = gguf->path();
    format.source = ReadModelTemplate(*gguf).source;
    if (format.source.empty()) return std::nullopt;
  } else {
    return std::nullopt;
  }
  format.variables = ReadVariables(options);
  return format;
}

}  // namespace thermocline
