// What stands beside a vocabulary: which tokens begin and end texts, and chat templates.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "runtime/core/error.h"
#include "runtime/import/imported_vocabulary.h"
#include "runtime/safetensors/bounded_json.h"

namespace thermocline {
namespace {

using Json = nlohmann::json;

constexpr JsonBounds kSideFileBounds = {
    .max_bytes = 16U << 20, .max_depth = 32, .max_values = 1U << 20};
constexpr uint64_t kMaxTemplateBytes = 1U << 20;
constexpr const char* kSpecialNames[] = {"bos", "eos", "unk", "sep", "pad", "cls", "mask"};

bool IsFileThere(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(path, ignored);
}

// Returns an object, empty where the file is absent.
Json ReadSideFile(const std::string& path) {
  if (!IsFileThere(path)) return Json::object();
  Json json = ReadJsonFile(path, kSideFileBounds);
  if (!json.is_object()) {
    throw Error(
        {.path = path, .what = "the file", .expected = "an object", .found = JsonKind(json)});
  }
  return json;
}

// A token is written as its text, or as an object with it.
std::string TextOfToken(const Json& config, const std::string& key) {
  auto token = config.find(key);
  if (token == config.end()) return "";
  if (token->is_object()) {
    const auto content = token->find("content");
    if (content == token->end()) return "";
    token = content;
  }
  return token->is_string() ? token->get<std::string>() : "";
}

class SpecialTokenReader {
 public:
  SpecialTokenReader(const std::string& directory, const Json* tokenizer,
                     const std::vector<AddedToken>& added, ImportedVocabulary* vocab)
      : directory_(directory),
        tokenizer_(tokenizer),
        added_(added),
        vocab_(*vocab),
        tokenizer_config_(ReadSideFile(directory + "/tokenizer_config.json")),
        map_(ReadSideFile(directory + "/special_tokens_map.json")),
        config_(ReadSideFile(directory + "/config.json")),
        generation_(ReadSideFile(directory + "/generation_config.json")) {}

  void Read() {
    ReadNames();
    ReadConfigIds();
    ReadEnds();
    ReadTemplateProcessing();
    ReadFlag("add_bos_token", &vocab_.add_bos);
    ReadFlag("add_eos_token", &vocab_.add_eos);
    if (vocab_.model == "llama") ReadFlag("add_prefix_space", &vocab_.add_space_prefix);
    ReadTemplates();
  }

 private:
  std::optional<int32_t> IdOfText(const std::string& text) const {
    if (text.empty()) return std::nullopt;
    const auto found = std::ranges::find(added_, text, &AddedToken::text);
    if (found != added_.end() && found->id < Size()) return found->id;
    const auto token = std::ranges::find(vocab_.tokens, text);
    if (token == vocab_.tokens.end()) return std::nullopt;
    return static_cast<int32_t>(token - vocab_.tokens.begin());
  }
  int32_t Size() const { return static_cast<int32_t>(vocab_.tokens.size()); }

  std::string SpecialText(const std::string& name) const {
    const std::string text = TextOfToken(tokenizer_config_, name + "_token");
    return text.empty() ? TextOfToken(map_, name + "_token") : text;
  }

  void ReadNames() {
    for (const std::string name : kSpecialNames) {
      if (const auto id = IdOfText(SpecialText(name))) vocab_.ids.emplace(name, *id);
    }
  }

  // Appends the ids of a key: one, or a list. What the vocabulary does not have is left out.
  void AppendIds(const Json& config, const std::string& key, std::vector<int32_t>* ids) const {
    const auto value = config.find(key);
    if (value == config.end()) return;
    const auto append = [&](const Json& id) {
      if (!id.is_number_unsigned() || id.get<uint64_t>() >= vocab_.tokens.size()) return;
      if (std::ranges::find(*ids, id.get<int32_t>()) == ids->end())
        ids->push_back(id.get<int32_t>());
    };
    if (!value->is_array()) return append(*value);
    for (const Json& id : *value) append(id);
  }

  void ReadConfigIds() {
    const auto part = config_.find("text_config");
    for (const std::string name : kSpecialNames) {
      std::vector<int32_t> ids;
      AppendIds(config_, name + "_token_id", &ids);
      if (part != config_.end()) AppendIds(*part, name + "_token_id", &ids);
      if (!ids.empty()) vocab_.ids.emplace(name, ids.front());
    }
  }

  void ReadEnds() {
    std::vector<int32_t> ends;
    AppendIds(generation_, "eos_token_id", &ends);
    AppendIds(config_, "eos_token_id", &ends);
    if (!ends.empty()) vocab_.ids.emplace("eos", ends.front());
    if (const auto eos = vocab_.ids.find("eos"); eos != vocab_.ids.end()) {
      if (std::ranges::find(ends, eos->second) == ends.end()) ends.push_back(eos->second);
    }
    if (ends.size() > 1) vocab_.ends = std::move(ends);
  }

  // What a tokenizer puts around a text.
  void ReadTemplateProcessing() {
    if (tokenizer_ == nullptr) return;
    const auto part = tokenizer_->find("post_processor");
    if (part == tokenizer_->end() || !part->is_object()) return;
    const auto list = part->find("processors");
    if (list != part->end() && list->is_array()) {
      for (const Json& processor : *list) ReadProcessor(processor);
    } else {
      ReadProcessor(*part);
    }
  }

  void ReadProcessor(const Json& processor) {
    if (!processor.is_object() || processor.value("type", Json()) != "TemplateProcessing") return;
    const auto single = processor.find("single");
    if (single == processor.end() || !single->is_array() || single->size() < 2) return;
    ReadTemplateEnd(single->front(), "bos", &vocab_.add_bos);
    ReadTemplateEnd(single->back(), "eos", &vocab_.add_eos);
  }

  void ReadTemplateEnd(const Json& item, const std::string& name, std::optional<bool>* adds) {
    if (!item.is_object()) return;
    const auto token = item.find("SpecialToken");
    if (token == item.end()) return;
    const std::string text = TextOfToken({{"t", {{"content", token->value("id", Json())}}}}, "t");
    const auto id = IdOfText(text);
    if (!id) return;
    const auto known = vocab_.ids.emplace(name, *id).first;
    *adds = known->second == *id;
  }

  void ReadFlag(const char* key, std::optional<bool>* flag) const {
    const auto value = tokenizer_config_.find(key);
    if (value != tokenizer_config_.end() && value->is_boolean()) *flag = value->get<bool>();
  }

  void ReadTemplates() {
    const std::string file = directory_ + "/chat_template.jinja";
    if (IsFileThere(file)) {
      vocab_.templates[""] = ReadWholeFile(file, kMaxTemplateBytes);
      return;
    }
    Json given = ReadSideFile(directory_ + "/chat_template.json").value("chat_template", Json());
    if (tokenizer_config_.contains("chat_template")) given = tokenizer_config_["chat_template"];
    if (given.is_string()) vocab_.templates[""] = given.get<std::string>();
    if (!given.is_array()) return;
    for (const Json& entry : given) {
      const std::string name = TextOfToken(entry, "name");
      const std::string text = TextOfToken(entry, "template");
      if (!name.empty() && !text.empty()) vocab_.templates[name == "default" ? "" : name] = text;
    }
  }

  const std::string& directory_;
  const Json* tokenizer_;
  const std::vector<AddedToken>& added_;
  ImportedVocabulary& vocab_;
  Json tokenizer_config_;
  Json map_;
  Json config_;
  Json generation_;
};

}  // namespace

void ReadSpecialTokens(const std::string& directory, const Json* tokenizer,
                       const std::vector<AddedToken>& added, ImportedVocabulary* vocab) {
  SpecialTokenReader(directory, tokenizer, added, vocab).Read();
}

}  // namespace thermocline
