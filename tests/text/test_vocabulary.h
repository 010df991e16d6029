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

// The vocabulary has <unk> 0, <s> 1, </s> 2, the 256 bytes from kFirstByteId, then nothing.
inline constexpr int32_t kFirstByteId = 3;
inline constexpr int32_t kFirstPieceId = kFirstByteId + 256;
Vocabulary BaseVocabulary();

// Adds a token and returns its id.
int32_t AddToken(Vocabulary* vocab, const std::string& name, float score,
                 TokenType type = TokenType::kNormal);

// Returns BaseVocabulary() with the pieces that "hello world" and a few multi-byte characters need.
Vocabulary HelloVocabulary();

// Returns the keys of a byte-level BPE file: the token of byte b has the id b, then come the
// results of the merges ("h e", with spellings as in a file), then <|end|>, a control token. Its
// pre-tokenizer is qwen2.
Keys BpeKeys(const std::vector<std::string>& merges);
// Returns the id of the result of merge i of BpeKeys(); of its control token where i is one more
// than the last.
inline int32_t MergedId(size_t i) { return 256 + static_cast<int32_t>(i); }
// Adds a token to the keys and returns its id.
int32_t AddToken(Keys* keys, const std::string& name, TokenType type);

GgufValue StringArray(std::vector<std::string> values);
GgufValue FloatArray(std::vector<double> values);
GgufValue IntArray(std::vector<int64_t> values);

// Returns the keys of a file with this vocabulary.
Keys KeysOf(const Vocabulary& vocab);

// Writes the keys into a GGUF file, reads them back and makes the tokenizer.
std::unique_ptr<Tokenizer> TokenizerFromKeys(const Keys& keys);

// Returns the message with which that fails, "no error" where it does not. Expects one line that
// names the file.
std::string ErrorOf(const Keys& keys);

}  // namespace thermocline
