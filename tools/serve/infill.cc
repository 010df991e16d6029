#include "tools/serve/infill.h"

#include <fmt/format.h>

#include <initializer_list>

namespace thermocline {
namespace {

constexpr size_t kMaxExtraFiles = 256;

int32_t FindToken(const GgufReader& gguf, const Tokenizer& tokenizer,
                  std::initializer_list<const char*> keys,
                  std::initializer_list<const char*> names) {
  for (const char* key : keys) {
    const auto id = gguf.GetU64(key);
    if (id && *id < static_cast<uint64_t>(tokenizer.vocab_size())) {
      return static_cast<int32_t>(*id);
    }
  }
  for (const char* name : names) {
    const std::vector<int32_t> ids = tokenizer.Encode(name, true);
    if (ids.size() == 1 && tokenizer.TokenName(ids[0]) == name) return ids[0];
  }
  return -1;
}

void Append(const std::vector<int32_t>& more, std::vector<int32_t>* ids) {
  ids->insert(ids->end(), more.begin(), more.end());
}

}  // namespace

InfillTokens FindInfillTokens(const GgufReader& gguf, const Tokenizer& tokenizer) {
  const InfillTokens tokens = {
      .prefix = FindToken(gguf, tokenizer,
                          {"tokenizer.ggml.fim_pre_token_id", "tokenizer.ggml.prefix_token_id"},
                          {"<|fim_prefix|>", "<fim_prefix>", "<fim-prefix>", "<PRE>",
                           "<｜fim▁begin｜>", "▁<PRE>", "<|code_prefix|>"}),
      .suffix = FindToken(gguf, tokenizer,
                          {"tokenizer.ggml.fim_suf_token_id", "tokenizer.ggml.suffix_token_id"},
                          {"<|fim_suffix|>", "<fim_suffix>", "<fim-suffix>", "<SUF>",
                           "<｜fim▁hole｜>", "▁<SUF>", "<|code_suffix|>"}),
      .middle = FindToken(gguf, tokenizer,
                          {"tokenizer.ggml.fim_mid_token_id", "tokenizer.ggml.middle_token_id"},
                          {"<|fim_middle|>", "<fim_middle>", "<fim-middle>", "<MID>",
                           "<｜fim▁end｜>", "▁<MID>", "<|code_middle|>"}),
      .file = FindToken(gguf, tokenizer, {"tokenizer.ggml.fim_sep_token_id"},
                        {"<|file_sep|>", "<file_sep>"})};
  if (tokens.prefix >= 0 && tokens.suffix >= 0 && tokens.middle >= 0) return tokens;
  throw ApiError(ApiErrorKind::kNotSupported,
                 "the model cannot fill in: its vocabulary lacks the tokens for a prefix, a suffix "
                 "and a middle");
}

std::vector<int32_t> InfillPrompt(const Fields& fields, const InfillTokens& tokens,
                                  const Tokenizer& tokenizer) {
  const std::string prefix =
      fields.RequiredText("input_prefix") + fields.Text("prompt").value_or("");
  const std::string suffix = fields.RequiredText("input_suffix");
  std::vector<int32_t> ids;
  if (tokenizer.add_bos() && tokenizer.bos_id() >= 0) ids.push_back(tokenizer.bos_id());
  if (const ApiJson* extra = fields.Array("input_extra")) {
    if (extra->size() > kMaxExtraFiles) {
      FailField("input_extra", fmt::format("at most {} files", kMaxExtraFiles), extra);
    }
    for (size_t i = 0; i < extra->size(); ++i) {
      const Fields file((*extra)[i], fmt::format("input_extra[{}]", i));
      const std::string name = file.Text("filename").value_or("tmp");
      const std::string text = file.RequiredText("text");
      if (tokens.file >= 0) ids.push_back(tokens.file);
      Append(tokenizer.Encode(fmt::format("{}\n{}\n", name, text)), &ids);
    }
    if (tokens.file >= 0 && !extra->empty()) ids.push_back(tokens.file);
  }
  ids.push_back(tokens.prefix);
  Append(tokenizer.Encode(prefix), &ids);
  ids.push_back(tokens.suffix);
  Append(tokenizer.Encode(suffix), &ids);
  ids.push_back(tokens.middle);
  return ids;
}

}  // namespace thermocline
