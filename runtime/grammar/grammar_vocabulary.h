// What a vocabulary's tokens write, as grammars see it; made once for a model.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "runtime/grammar/token_trie.h"

namespace thermocline {

class Tokenizer;

class GrammarVocabulary {
 public:
  explicit GrammarVocabulary(const Tokenizer& tokenizer);
  // For vocabularies that are no file's: bytes of each token (none: a control token), and names of
  // those that have some.
  GrammarVocabulary(std::vector<std::string> bytes, std::unordered_map<std::string, int32_t> names);

  int32_t size() const { return static_cast<int32_t>(bytes_.size()); }
  // Empty for a token that writes nothing (a control token).
  const std::string& bytes(int32_t id) const { return bytes_[static_cast<size_t>(id)]; }
  const TokenTrie& trie() const { return trie_; }
  // Returns the token that is called so, a control token or one that writes just this; or -1.
  int32_t Find(std::string_view name) const;

 private:
  std::vector<std::string> bytes_;
  std::unordered_map<std::string, int32_t> names_;
  TokenTrie trie_;
};

}  // namespace thermocline
