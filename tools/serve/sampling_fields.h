// How tokens are chosen, as requests say it.
#pragma once

#include "runtime/text/tokenizer.h"
#include "tools/serve/generation.h"
#include "tools/serve/json_fields.h"

namespace thermocline {

// What holds where a request says nothing.
struct RequestDefaults {
  SamplerOptions sampler;
  bool ignore_eos = false;
  int64_t seed = -1;       // -1: a random one for each request
  int64_t n_predict = -1;  // most tokens of a reply; -1: until it ends
  bool verbose = false;
};

// Puts the defaults, and what the fields that all APIs share say of them, into a spec: sampling,
// seed, biases, stop strings, probabilities, caching, what an answer tells. Throws ApiError.
void ReadGenerationFields(const Fields& fields, const RequestDefaults& defaults,
                          const Tokenizer& tokenizer, GenerationSpec* spec);

// The limit on tokens by the first of these fields that is there, or the default.
void ReadTokenLimit(const Fields& fields, std::initializer_list<const char*> names,
                    const RequestDefaults& defaults, GenerationSpec* spec);

// Drops empty strings, and checks the others. path: for messages.
void SetStopStrings(std::vector<std::string> strings, const std::string& path,
                    GenerationSpec* spec);

}  // namespace thermocline
