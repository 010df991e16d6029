#include "runtime/grammar/grammar_vocabulary.h"

#include <utility>

#include "runtime/text/tokenizer.h"

namespace thermocline {
namespace {

std::vector<std::string> BytesOf(const Tokenizer& tokenizer) {
  std::vector<std::string> bytes;
  bytes.reserve(static_cast<size_t>(tokenizer.vocab_size()));
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    bytes.push_back(tokenizer.TokenBytes(id));
  }
  return bytes;
}

std::unordered_map<std::string, int32_t> NamesOf(const Tokenizer& tokenizer) {
  std::unordered_map<std::string, int32_t> names;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    std::string name = tokenizer.TokenName(id);
    // Only such names can stand in a grammar; leaving out the others keeps the table small.
    if (name.size() > 2 && (name.front() == '<' || name.front() == '[')) {
      names.try_emplace(std::move(name), id);
    }
  }
  return names;
}

}  // namespace

GrammarVocabulary::GrammarVocabulary(const Tokenizer& tokenizer)
    : bytes_(BytesOf(tokenizer)), names_(NamesOf(tokenizer)), trie_(bytes_) {}

GrammarVocabulary::GrammarVocabulary(std::vector<std::string> bytes,
                                     std::unordered_map<std::string, int32_t> names)
    : bytes_(std::move(bytes)), names_(std::move(names)), trie_(bytes_) {}

int32_t GrammarVocabulary::Find(std::string_view name) const {
  const auto found = names_.find(std::string(name));
  return found == names_.end() ? -1 : found->second;
}

}  // namespace thermocline
