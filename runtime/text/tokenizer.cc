#include "runtime/text/tokenizer.h"

#include <fmt/format.h>

#include "runtime/core/error.h"
#include "runtime/gguf/gguf_reader.h"
#include "runtime/text/sentencepiece_tokenizer.h"
#include "runtime/text/utf8.h"

namespace thermocline {

std::vector<int32_t> Tokenizer::encode_prompt(std::string_view text) const {
  std::vector<int32_t> ids = encode(text);
  if (add_bos() && bos_id() >= 0) ids.insert(ids.begin(), bos_id());
  if (add_eos() && eos_id() >= 0) ids.push_back(eos_id());
  return ids;
}

std::string Tokenizer::decode(const std::vector<int32_t>& ids) const {
  std::string text;
  for (const int32_t id : ids) text += token_bytes(id);
  if (adds_space_prefix() && !text.empty() && text[0] == ' ') text.erase(0, 1);
  return text;
}

std::unique_ptr<Tokenizer> make_tokenizer(const GgufReader& gguf) {
  const auto model = gguf.get_string("tokenizer.ggml.model");
  if (!model) {
    throw Error({gguf.path(), "the file has no vocabulary (key tokenizer.ggml.model)", "", "",
                 "use a model file that holds its tokenizer"});
  }
  if (*model != "llama") {
    throw Error({gguf.path(), "kind of tokenizer (tokenizer.ggml.model)",
                 "one that is supported: llama (SentencePiece BPE)",
                 fmt::format("\"{}\"", printable(replace_invalid_utf8(*model), 40)), ""});
  }
  return std::make_unique<SentencePieceTokenizer>(read_sentencepiece_vocabulary(gguf));
}

}  // namespace thermocline
