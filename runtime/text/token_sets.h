// Sets of tokens that a vocabulary gives.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "runtime/text/tokenizer.h"

namespace thermocline {

// The tokens that stand for a text with one of `parts` in it, ascending: what no repetition goes
// across (SamplerOptions::dry_breakers). Empty parts are in none.
std::vector<int32_t> TokensWith(const Tokenizer& tokenizer, std::span<const std::string> parts);

// The tokens that end a text, ascending.
std::vector<int32_t> EndTokens(const Tokenizer& tokenizer);

}  // namespace thermocline
