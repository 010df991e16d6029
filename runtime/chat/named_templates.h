// Chat templates of well-known formats, for models that bring none of their own.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace thermocline {

// Returns the template of a format ("chatml"), or nothing where there is none of this name.
std::optional<std::string_view> NamedTemplate(std::string_view name);

// "chatml, deepseek, gemma, ..."
std::string NamedTemplateList();

}  // namespace thermocline
