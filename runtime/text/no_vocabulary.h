// The tokenizer of a model without a vocabulary (tokenizer.ggml.model "no_vocab"): ids go in and
// out, and text is an error.
#pragma once

#include <fmt/format.h>

#include <string>
#include <utility>
#include <vector>

#include "runtime/text/tokenizer.h"

namespace thermocline {

class NoVocabulary final : public Tokenizer {
 public:
  explicit NoVocabulary(std::string path) : path_(std::move(path)) {}

  int32_t vocab_size() const override { return 0; }
  int32_t bos_id() const override { return -1; }
  int32_t eos_id() const override { return -1; }
  bool add_bos() const override { return false; }
  bool EndsText(int32_t /*id*/) const override { return false; }
  std::string TokenBytes(int32_t id) const override { return fmt::format("[{}]", id); }
  bool adds_space_prefix() const override { return false; }

 protected:
  // Throws Error.
  std::vector<int32_t> EncodeText(std::string_view text, bool parse_special) const override;

 private:
  std::string path_;
};

}  // namespace thermocline
