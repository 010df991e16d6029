// How tokens are chosen, as `run` and `serve` take it: flags with the names that people know.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/sampling/sampler_options.h"
#include "runtime/text/tokenizer.h"

namespace thermocline {

struct SamplingArgs {
  SamplerOptions sampling;
  int64_t seed = -1;  // -1: a random one
  // Texts that no repetition goes across; "none" empties the list.
  std::vector<std::string> dry_breakers = {"\n", ":", "\"", "*"};
  bool ignore_end = false;
};

// Adds them all. `args` must outlive the parsing.
void AddSamplingOptions(CLI::App& verb, SamplingArgs* args);

// What they say together: with a seed drawn where none is given, and the tokens of this vocabulary.
SamplerOptions ResolveSampling(const SamplingArgs& args, const Tokenizer& tokenizer);

}  // namespace thermocline
