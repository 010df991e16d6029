// Prompts of requests: texts, ids, and both mixed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/text/tokenizer.h"
#include "tools/serve/json_fields.h"

namespace thermocline {

inline constexpr size_t kMaxPrompts = 256;  // of one request

// Reads a text, ids ([1, 2]), both mixed ([1, "text"]), an object {"prompt_string": text}, or an
// array of any of these, which is several prompts. A text has BOS first where the file wishes it,
// and names of control tokens in it are those tokens: who writes a whole prompt writes its
// template, too. path: for messages. Throws ApiError.
std::vector<std::vector<int32_t>> ReadPrompts(const ApiJson& json, const std::string& path,
                                              const Tokenizer& tokenizer);

// Reads an array of ids.
std::vector<int32_t> ReadIds(const ApiJson& json, const std::string& path,
                             const Tokenizer& tokenizer);

}  // namespace thermocline
