#include "runtime/text/tokenizer.h"

#include <fmt/format.h>

#include "runtime/core/error.h"
#include "runtime/gguf/gguf_reader.h"
#include "runtime/text/bpe_tokenizer.h"
#include "runtime/text/no_vocabulary.h"
#include "runtime/text/sentencepiece_tokenizer.h"
#include "runtime/text/unigram_tokenizer.h"
#include "runtime/text/utf8.h"

namespace thermocline {

std::vector<int32_t> Tokenizer::EncodePrompt(std::string_view text, bool parse_special) const {
  std::vector<int32_t> ids = Encode(text, parse_special);
  if (add_bos() && bos_id() >= 0) ids.insert(ids.begin(), bos_id());
  return ids;
}

std::vector<int32_t> Tokenizer::EncodeWhole(std::string_view text) const {
  std::vector<int32_t> ids = EncodePrompt(text);
  if (add_eos() && eos_id() >= 0) ids.push_back(eos_id());
  return ids;
}

std::string Tokenizer::Decode(const std::vector<int32_t>& ids) const {
  std::string text;
  for (const int32_t id : ids) text += TokenBytes(id);
  if (adds_space_prefix() && !text.empty() && text[0] == ' ') text.erase(0, 1);
  return text;
}

std::unique_ptr<Tokenizer> MakeTokenizer(const GgufReader& gguf) {
  const auto model = gguf.GetString("tokenizer.ggml.model");
  if (!model) {
    throw Error({gguf.path(), "the file has no vocabulary (key tokenizer.ggml.model)", "", "",
                 "use a model file that holds its tokenizer"});
  }
  if (*model == "llama") {
    return std::make_unique<SentencePieceTokenizer>(ReadSentencepieceVocabulary(gguf));
  }
  if (*model == "gpt2" || *model == "gemma4") {
    return std::make_unique<BpeTokenizer>(ReadBpeVocabulary(gguf));
  }
  if (*model == "t5") return std::make_unique<UnigramTokenizer>(ReadUnigram(gguf));
  if (*model == "no_vocab" || *model == "none") return std::make_unique<NoVocabulary>(gguf.path());
  throw Error({gguf.path(), "kind of tokenizer (tokenizer.ggml.model)",
               "one that is supported: llama (SentencePiece BPE), gpt2 (byte-level BPE), gemma4 "
               "(BPE over plain text) or t5 (unigram)",
               fmt::format("\"{}\"", Printable(ReplaceInvalidUtf8(*model), 40)), ""});
}

}  // namespace thermocline
