// Reads JSON that somebody else wrote, within bounds: how large a text may be, how deep its values
// nest, how many there are. Names within an object are unique. What does not hold throws Error with
// the path.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace thermocline {

struct JsonBounds {
  uint64_t max_bytes = uint64_t{64} << 20;
  int max_depth = 64;
  // Each value takes some 50 bytes of memory when it is parsed.
  uint64_t max_values = uint64_t{4} << 20;
};

// Parses one JSON text. `path` is for messages.
nlohmann::json ParseBoundedJson(std::string_view text, const std::string& path,
                                const JsonBounds& bounds);

// Reads a file as one JSON text.
nlohmann::json ReadJsonFile(const std::string& path, const JsonBounds& bounds);

// Returns a file's bytes. Throws Error for one of more than max_bytes. An empty file is "".
std::string ReadWholeFile(const std::string& path, uint64_t max_bytes);

// Says what kind of value one is, for messages: "a string", "null", "an array of 3".
std::string JsonKind(const nlohmann::json& value);

}  // namespace thermocline
