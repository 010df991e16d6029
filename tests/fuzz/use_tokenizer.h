// What the harnesses of vocabularies share. A broken promise aborts.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "runtime/core/error.h"
#include "runtime/text/tokenizer.h"

namespace thermocline {

// Encodes a text, with and without special tokens, and returns its ids: the same from the cache,
// and each of them a token.
inline std::vector<int32_t> EncodeTwice(const Tokenizer& tokenizer, const std::string& text) {
  std::vector<int32_t> ids = tokenizer.Encode(text);
  if (tokenizer.Encode(text) != ids) std::abort();
  for (const int32_t id : tokenizer.Encode(text, /*parse_special=*/true)) {
    if (id < 0 || id >= tokenizer.vocab_size()) std::abort();
    (void)tokenizer.TokenName(id);
    (void)tokenizer.EndsText(id);
  }
  return ids;
}

// Calls use(), which may throw an Error of one line.
template <typename Use>
void ExpectOneLineErrors(const Use& use) {
  try {
    use();
  } catch (const Error& error) {
    for (const char* c = error.what(); *c != '\0'; ++c) {
      if (static_cast<unsigned char>(*c) < 0x20) std::abort();
    }
  }
}

}  // namespace thermocline
