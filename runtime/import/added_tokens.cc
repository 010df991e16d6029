// Tokens that were added to a vocabulary, and ids that the model has and no token does.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "runtime/core/error.h"
#include "runtime/import/imported_vocabulary.h"
#include "runtime/safetensors/bounded_json.h"

namespace thermocline {
namespace {

using Json = nlohmann::json;

constexpr JsonBounds kAddedBounds = {
    .max_bytes = 16U << 20, .max_depth = 32, .max_values = 1U << 20};
constexpr int64_t kMaxUnusedIds = 1 << 16;
constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581

// Returns a text with a character in place of each of its marks.
std::string InPlaceOfMarks(std::string_view text, std::string_view mark, char with) {
  std::string replaced;
  for (size_t at = 0; at < text.size();) {
    const bool is_mark = text.substr(at, mark.size()) == mark;
    replaced += is_mark ? with : text[at];
    at += is_mark ? mark.size() : 1;
  }
  return replaced;
}

// Some models have control tokens that they do not call special.
bool LooksSpecial(std::string_view text) {
  const auto between = [&](std::string_view first, std::string_view last) {
    return text.size() > first.size() + last.size() && text.starts_with(first) &&
           text.ends_with(last);
  };
  // U+FF5C is the bar of deepseek's.
  return text == "<pad>" || text == "<mask>" || text == "<2mass>" || text == "[@BOS@]" ||
         between("<|", "|>") || between("<\xEF\xBD\x9C", "\xEF\xBD\x9C>") ||
         between("<unused", ">");
}

int32_t AddedId(const Json& id, const std::string& path) {
  if (id.is_number_unsigned() && id.get<uint64_t>() < (1U << 24)) return id.get<int32_t>();
  throw Error({.path = path,
               .what = "the id of an added token",
               .expected = "an integer below 2^24",
               .found = JsonKind(id)});
}

}  // namespace

std::vector<AddedToken> ReadAddedTokens(const std::string& directory) {
  std::vector<AddedToken> added;
  std::error_code ignored;
  const std::string list = directory + "/added_tokens.json";
  if (std::filesystem::exists(list, ignored)) {
    const Json json = ReadJsonFile(list, kAddedBounds);
    for (const auto& [text, id] : json.items()) {
      added.push_back({.id = AddedId(id, list), .text = text});
    }
  }
  const std::string config = directory + "/tokenizer_config.json";
  if (!std::filesystem::exists(config, ignored)) return added;
  const Json json = ReadJsonFile(config, kAddedBounds);
  const auto tokens = json.is_object() ? json.find("added_tokens_decoder") : json.end();
  if (tokens == json.end() || !tokens->is_object()) return added;
  for (const auto& [id, entry] : tokens->items()) {
    AddedToken token;
    const auto parsed = std::from_chars(id.data(), id.data() + id.size(), token.id);
    const auto content = entry.is_object() ? entry.find("content") : entry.end();
    if (parsed.ec != std::errc() || parsed.ptr != id.data() + id.size() || token.id < 0 ||
        token.id >= 1 << 24 || content == entry.end() || !content->is_string()) {
      throw Error({.path = config,
                   .what = "key added_tokens_decoder",
                   .expected = "an object: ids, and tokens with a content",
                   .found = fmt::format("{}: {}", Printable(id), JsonKind(entry))});
    }
    token.text = content->get<std::string>();
    const auto special = entry.find("special");
    token.special = special != entry.end() && special->is_boolean() && special->get<bool>();
    added.push_back(std::move(token));
  }
  return added;
}

void AppendAddedTokens(const Json& tokenizer, const std::string& path,
                       std::vector<AddedToken>* added) {
  const auto list = tokenizer.find("added_tokens");
  if (list == tokenizer.end() || list->is_null()) return;
  const auto fail = [&](const Json& found) {
    throw Error({.path = path,
                 .what = "added_tokens",
                 .expected = "an array of objects with an id and a content",
                 .found = JsonKind(found)});
  };
  if (!list->is_array()) fail(*list);
  for (const Json& entry : *list) {
    if (!entry.is_object() || !entry.contains("id") || !entry.contains("content") ||
        !entry["content"].is_string()) {
      fail(entry);
    }
    const auto special = entry.find("special");
    added->push_back(
        {.id = AddedId(entry["id"], path),
         .text = entry["content"].get<std::string>(),
         .special = special != entry.end() && special->is_boolean() && special->get<bool>()});
  }
}

void AddTokens(const std::vector<AddedToken>& added, std::optional<int64_t> vocab_size,
               const std::string& path, ImportedVocabulary* vocab) {
  constexpr float kAddedScore = -1000;
  constexpr float kUnusedScore = -10000;
  size_t size = vocab->tokens.size();
  for (const AddedToken& token : added) size = std::max(size, static_cast<size_t>(token.id) + 1);
  if (vocab_size) {
    if (vocab->tokens.size() > static_cast<size_t>(*vocab_size)) {
      throw Error({.path = path,
                   .what = "number of tokens",
                   .expected = fmt::format("at most the model's vocab_size {}", *vocab_size),
                   .found = std::to_string(vocab->tokens.size())});
    }
    size = static_cast<size_t>(*vocab_size);
  } else if (size > vocab->tokens.size() + added.size() + kMaxUnusedIds) {
    throw Error({.path = path,
                 .what = "ids of added tokens",
                 .expected = fmt::format("about {}", vocab->tokens.size() + added.size()),
                 .found = std::to_string(size)});
  }
  vocab->tokens.resize(size);
  vocab->types.resize(size, TokenType::kUnused);
  if (vocab->model != "gpt2") vocab->scores.resize(size, kUnusedScore);
  for (const AddedToken& token : added) {
    const auto id = static_cast<size_t>(token.id);
    if (id >= size) continue;  // the model cannot tell it
    const bool control = token.special || LooksSpecial(token.text);
    std::string text = control ? token.text : InPlaceOfMarks(token.text, kSpaceMark, ' ');
    const bool was_unknown = vocab->types[id] == TokenType::kUnknown && vocab->tokens[id] == text;
    if (!was_unknown) {
      vocab->types[id] = control ? TokenType::kControl : TokenType::kUserDefined;
    }
    vocab->tokens[id] = std::move(text);
    if (!vocab->scores.empty() && !was_unknown) vocab->scores[id] = kAddedScore;
  }
  for (size_t id = 0; id < size; ++id) {
    if (vocab->types[id] == TokenType::kUnused && vocab->tokens[id].empty()) {
      vocab->tokens[id] = fmt::format("[PAD{}]", id);
    }
  }
}

}  // namespace thermocline
