// How a JSON schema is refused: by the keyword, and where it stands.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace thermocline {

using SchemaJson = nlohmann::ordered_json;

// where: "#/properties/name", of the schema that has the keyword. Throws Error.
[[noreturn]] void FailSchema(const std::string& where, std::string_view keyword,
                             const std::string& expected, const std::string& found = {});

// Returns the value of a keyword that is a count, or `otherwise` where there is none. Throws Error.
int64_t CountOf(const SchemaJson& schema, const char* keyword, int64_t otherwise,
                const std::string& where);

// Returns a value as a message shows it.
std::string ShortJson(const SchemaJson& value);

}  // namespace thermocline
