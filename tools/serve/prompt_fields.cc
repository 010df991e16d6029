#include "tools/serve/prompt_fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace thermocline {
namespace {

constexpr const char* kPromptForms = "a text, an array of token ids, or an array of such prompts";

int32_t ReadId(const ApiJson& json, const std::string& path, const Tokenizer& tokenizer) {
  const int64_t n = tokenizer.vocab_size();
  const bool whole = json.is_number_integer();
  const int64_t id = whole ? json.get<int64_t>() : -1;
  if (id < 0 || id >= n) {
    FailField(path, fmt::format("a token's id, a whole number from 0 to {}", n - 1), &json);
  }
  return static_cast<int32_t>(id);
}

// {"prompt_string": text}; the other member is for images.
std::string ReadPromptObject(const ApiJson& json, const std::string& path) {
  const Fields fields(json, path);
  const ApiJson* media = fields.Find("multimodal_data");
  if (media != nullptr && !media->empty()) {
    throw ApiError(ApiErrorKind::kNoImages,
                   "image input is not supported: the model reads text alone",
                   {{"param", fields.PathOf("multimodal_data")}});
  }
  return fields.RequiredText("prompt_string");
}

std::vector<int32_t> Checked(std::vector<int32_t> ids, const std::string& path,
                             const ApiJson& json) {
  if (ids.empty()) FailField(path, "a prompt of at least one token", &json);
  return ids;
}

std::vector<int32_t> ReadMixed(const ApiJson& json, const std::string& path,
                               const Tokenizer& tokenizer) {
  std::vector<int32_t> ids;
  for (const ApiJson& item : json) {
    if (!item.is_string()) {
      ids.push_back(ReadId(item, path, tokenizer));
      continue;
    }
    const auto& text = item.get_ref<const std::string&>();
    const std::vector<int32_t> more =
        ids.empty() ? tokenizer.EncodePrompt(text, true) : tokenizer.Encode(text, true);
    ids.insert(ids.end(), more.begin(), more.end());
  }
  return Checked(std::move(ids), path, json);
}

bool IsOnePrompt(const ApiJson& json) {
  const bool has_id =
      std::any_of(json.begin(), json.end(), [](const ApiJson& item) { return item.is_number(); });
  const bool has_other = std::any_of(json.begin(), json.end(), [](const ApiJson& item) {
    return !item.is_number() && !item.is_string();
  });
  return has_id && !has_other;
}

std::vector<int32_t> ReadOne(const ApiJson& json, const std::string& path,
                             const Tokenizer& tokenizer) {
  if (json.is_string()) {
    return Checked(tokenizer.EncodePrompt(json.get_ref<const std::string&>(), true), path, json);
  }
  if (json.is_object()) {
    return Checked(tokenizer.EncodePrompt(ReadPromptObject(json, path), true), path, json);
  }
  if (json.is_array()) return ReadMixed(json, path, tokenizer);
  FailField(path, kPromptForms, &json);
}

}  // namespace

std::vector<std::vector<int32_t>> ReadPrompts(const ApiJson& json, const std::string& path,
                                              const Tokenizer& tokenizer) {
  std::vector<std::vector<int32_t>> prompts;
  if (!json.is_array() || IsOnePrompt(json)) {
    prompts.push_back(ReadOne(json, path, tokenizer));
    return prompts;
  }
  if (json.empty() || json.size() > kMaxPrompts) {
    FailField(path, fmt::format("from 1 to {} prompts", kMaxPrompts), &json);
  }
  for (size_t i = 0; i < json.size(); ++i) {
    prompts.push_back(ReadOne(json[i], fmt::format("{}[{}]", path, i), tokenizer));
  }
  return prompts;
}

std::vector<int32_t> ReadIds(const ApiJson& json, const std::string& path,
                             const Tokenizer& tokenizer) {
  std::vector<int32_t> ids;
  if (!json.is_array()) FailField(path, "an array of token ids", &json);
  for (const ApiJson& item : json) ids.push_back(ReadId(item, path, tokenizer));
  return ids;
}

}  // namespace thermocline
