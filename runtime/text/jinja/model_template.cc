#include "runtime/text/jinja/model_template.h"

#include <fmt/format.h>

#include "runtime/core/error.h"
#include "runtime/gguf/gguf_reader.h"

namespace thermocline {
namespace {

// Returns the text of the token whose id stands under `key`.
std::string TokenText(const GgufReader& gguf, const std::string& key) {
  const std::optional<uint64_t> id = gguf.GetU64(key);
  const std::vector<std::string>* tokens = gguf.GetStrings("tokenizer.ggml.tokens");
  if (!id.has_value() || tokens == nullptr) return "";
  if (*id >= tokens->size()) {
    throw Error({.path = gguf.path(),
                 .what = "key " + key,
                 .expected = fmt::format("an id below {}", tokens->size()),
                 .found = fmt::format("{}", *id)});
  }
  return (*tokens)[*id];
}

}  // namespace

ModelTemplate ReadModelTemplate(const GgufReader& gguf) {
  return {.source = gguf.GetString("tokenizer.chat_template").value_or(""),
          .bos_token = TokenText(gguf, "tokenizer.ggml.bos_token_id"),
          .eos_token = TokenText(gguf, "tokenizer.ggml.eos_token_id")};
}

}  // namespace thermocline
