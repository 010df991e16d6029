// What every tokenizer says of its vocabulary.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "runtime/text/special_tokens.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/vocabulary.h"

namespace thermocline {

class VocabularyTokenizer : public Tokenizer {
 public:
  explicit VocabularyTokenizer(Vocabulary vocab)
      : vocab_(std::move(vocab)), control_(vocab_, {TokenType::kControl, TokenType::kUnknown}) {}

  int32_t vocab_size() const override { return vocab_.size(); }
  int32_t bos_id() const override { return vocab_.bos_id; }
  int32_t eos_id() const override { return vocab_.eos_id; }
  bool add_bos() const override { return vocab_.add_bos; }
  bool add_eos() const override { return vocab_.add_eos; }
  bool EndsText(int32_t id) const override { return vocab_.EndsText(id); }
  bool adds_space_prefix() const override { return vocab_.add_space_prefix; }
  std::optional<SpecialTokens::Match> FindControlToken(std::string_view text) const override {
    return control_.FindFirst(text);
  }
  std::string TokenName(int32_t id) const override {
    const std::string bytes = TokenBytes(id);
    return bytes.empty() ? vocab_.tokens[id] : bytes;
  }

 protected:
  const Vocabulary& vocab() const { return vocab_; }
  const SpecialTokens& control_tokens() const { return control_; }

 private:
  Vocabulary vocab_;
  SpecialTokens control_;
};

}  // namespace thermocline
