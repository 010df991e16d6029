// What reading every kind of vocabulary has in common.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "runtime/gguf/gguf.h"
#include "runtime/text/vocabulary.h"

namespace thermocline {

class GgufReader;

// Throws Error about a vocabulary.
[[noreturn]] void FailVocabulary(const Vocabulary& vocab, std::string what, std::string expected,
                                 std::string found);
// Returns a token's name as messages show it.
std::string QuotedToken(const std::string& token);

// Returns the elements of an array key, or null where it has another type.
template <typename T>
const std::vector<T>* ArrayOf(const GgufValue& value) {
  const auto* array = std::get_if<GgufValue::Array>(&value.value);
  return array == nullptr ? nullptr : std::get_if<std::vector<T>>(array);
}

// Returns a vocabulary with path, tokens and types. All names that are not empty differ. Without
// types in the file every token is kNormal; an empty token is kUnused.
Vocabulary ReadTokensAndTypes(const GgufReader& gguf);

// Returns the id that the key `tokenizer.ggml.NAME_token_id` gives. Where the file gives none:
// `fallback` if the vocabulary is that large, else -1.
int32_t ReadTokenId(const GgufReader& gguf, const Vocabulary& vocab, const std::string& name,
                    int32_t fallback);

// Settles the byte tokens. Files that type no token as a byte mean those with a byte's name, when
// they are complete. Throws Error for a part of the 256, or one with another name.
void SettleByteTokens(Vocabulary* vocab);

// What holds where a file does not say it.
struct TextBounds {
  int32_t bos_id = -1;
  int32_t eos_id = -1;
  bool add_bos = false;
  bool add_eos = false;
};
// Reads what texts begin and end with: the ids of BOS, EOS, EOT and EOM, whether BOS and EOS are
// added, further ids that end a reply (eos_token_ids), and the control tokens that are known by
// their names. Where the file has no types the four become control tokens. REQUIRES: tokens and
// types are read.
void ReadTextBounds(const GgufReader& gguf, const TextBounds& fallback, Vocabulary* vocab);

}  // namespace thermocline
