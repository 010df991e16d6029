// Small vocabularies for tests, as structs and as the GGUF keys that describe them.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/gguf/gguf.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/vocabulary.h"

namespace thermocline {

using Keys = std::map<std::string, GgufValue>;

// <unk> 0, <s> 1, </s> 2, the 256 bytes from kFirstByteId, then nothing.
inline constexpr int32_t kFirstByteId = 3;
inline constexpr int32_t kFirstPieceId = kFirstByteId + 256;
Vocabulary base_vocabulary();

// Adds a token and returns its id.
int32_t add_token(Vocabulary* vocab, const std::string& name, float score,
                  TokenType type = TokenType::kNormal);

// base_vocabulary() with the pieces that "hello world" and a few multi-byte characters need.
Vocabulary hello_vocabulary();

GgufValue string_array(std::vector<std::string> values);
GgufValue float_array(std::vector<double> values);
GgufValue int_array(std::vector<int64_t> values);

// The keys of a file with this vocabulary.
Keys keys_of(const Vocabulary& vocab);

// Writes the keys into a GGUF file, reads them back and makes the tokenizer.
std::unique_ptr<Tokenizer> tokenizer_from_keys(const Keys& keys);

}  // namespace thermocline
