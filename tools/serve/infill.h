// Prompts that have a model fill in what stands between two texts.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/gguf/gguf_reader.h"
#include "runtime/text/tokenizer.h"
#include "tools/serve/json_fields.h"

namespace thermocline {

struct InfillTokens {
  int32_t prefix = -1;  // -1: the vocabulary has none
  int32_t suffix = -1;
  int32_t middle = -1;
  int32_t file = -1;  // between files
};

// The tokens that the file names, or else those of the names that models give them. Throws ApiError
// (501) where the vocabulary lacks one of the first three.
InfillTokens FindInfillTokens(const GgufReader& gguf, const Tokenizer& tokenizer);

// The ids of "input_prefix", "input_suffix", "prompt" (more of the prefix) and "input_extra" (other
// files: [{"filename", "text"}]) as a prompt.
std::vector<int32_t> InfillPrompt(const Fields& fields, const InfillTokens& tokens,
                                  const Tokenizer& tokenizer);

}  // namespace thermocline
