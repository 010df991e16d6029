// Small vocabularies and matching of whole texts, for tests of grammars.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "runtime/grammar/grammar_mask.h"

namespace thermocline {

// The 256 bytes by their values, an end of text (256), a control token called <think> (257), then
// further texts.
inline constexpr int32_t kEndToken = 256;
inline constexpr int32_t kThinkToken = 257;
inline constexpr int32_t kFirstFurtherToken = 258;

inline std::shared_ptr<const GrammarVocabulary> ByteVocabulary(
    const std::vector<std::string>& further = {}) {
  std::vector<std::string> bytes;
  for (int byte = 0; byte < 256; ++byte) bytes.emplace_back(1, static_cast<char>(byte));
  bytes.emplace_back();
  bytes.emplace_back();
  bytes.insert(bytes.end(), further.begin(), further.end());
  return std::make_shared<GrammarVocabulary>(
      std::move(bytes), std::unordered_map<std::string, int32_t>{{"<think>", kThinkToken}});
}

inline std::shared_ptr<const CompiledGrammar> Compile(
    std::string_view gbnf, std::shared_ptr<const GrammarVocabulary> vocabulary = ByteVocabulary()) {
  return std::make_shared<CompiledGrammar>(gbnf, std::move(vocabulary));
}

// Whether a whole text is one of the grammar's.
inline bool Matches(const std::shared_ptr<const CompiledGrammar>& grammar, std::string_view text) {
  GrammarMask mask(grammar, {kEndToken});
  return (text.empty() || mask.AcceptText(text)) && mask.may_end();
}

// The ids that may come next.
inline std::vector<int32_t> AllowedIds(GrammarMask& mask, int32_t n_tokens) {
  std::vector<uint32_t> words(static_cast<size_t>(TokenMaskWords(n_tokens)));
  mask.Fill(words);
  std::vector<int32_t> ids;
  for (int32_t id = 0; id < n_tokens; ++id) {
    if (HasToken(words, id)) ids.push_back(id);
  }
  return ids;
}

}  // namespace thermocline
