// What `run` and `render` take about chat templates.
#pragma once

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "runtime/chat/chat_format.h"
#include "runtime/gguf/gguf_reader.h"

namespace thermocline {

// Returns the JSON of a text. `name`: the file it is from, for messages. Throws Error.
nlohmann::ordered_json ParseJson(const std::string& text, const std::string& name);

// What is given of a template: which, and its variables. Empty: not given.
struct TemplateOptions {
  std::string name_or_path;
  std::string variables;  // JSON or a file
  std::string reasoning;  // on, off
};

// Adds --chat-template, --template-vars and --reasoning. `options` must outlive the parsing.
void AddTemplateOptions(CLI::App& verb, TemplateOptions* options);

// Returns the template that is asked for, or else the model's, and the variables; nothing where
// there is neither. `gguf`: the model, null for none. Throws Error for a file that cannot be read
// and for variables that are no JSON object.
std::optional<ChatFormatOptions> ReadTemplate(const TemplateOptions& options,
                                              const GgufReader* gguf);

}  // namespace thermocline
