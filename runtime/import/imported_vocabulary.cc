#include "runtime/import/imported_vocabulary.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <sstream>

#include "runtime/core/error.h"
#include "runtime/safetensors/bounded_json.h"
#include "runtime/text/bpe_vocabulary.h"

namespace thermocline {
namespace {

using Json = nlohmann::json;

// The largest vocabularies of today come in some 35 MB.
constexpr JsonBounds kTokenizerBounds = {
    .max_bytes = uint64_t{256} << 20, .max_depth = 32, .max_values = 16'000'000};
constexpr uint64_t kMaxModelBytes = uint64_t{64} << 20;

bool HasFile(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(path, ignored);
}

// vocab.json and merges.txt, as a tokenizer.json would have them: GPT-2's, OPT's.
Json Gpt2Files(const std::string& directory) {
  const std::string path = directory + "/merges.txt";
  std::istringstream lines(ReadWholeFile(path, kMaxModelBytes));
  Json merges = Json::array();
  for (std::string line; std::getline(lines, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (!line.empty() && !line.starts_with("#version")) merges.push_back(line);
  }
  Json model = {{"type", "BPE"},
                {"vocab", ReadJsonFile(directory + "/vocab.json", kTokenizerBounds)},
                {"merges", std::move(merges)}};
  return {{"model", std::move(model)},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}}};
}

// What begins and ends texts is no text itself, where its name says so. (Some configs give an id
// that is a word's.)
void TypeNamedTokens(ImportedVocabulary* vocab) {
  for (const char* name : {"bos", "eos"}) {
    const auto id = vocab->ids.find(name);
    if (id == vocab->ids.end()) continue;
    const std::string& text = vocab->tokens[static_cast<size_t>(id->second)];
    TokenType& type = vocab->types[static_cast<size_t>(id->second)];
    const bool is_tag = text.starts_with("<") && text.ends_with(">") && text.size() > 2;
    if (type == TokenType::kNormal && is_tag) type = TokenType::kControl;
  }
}

std::string KeyName(const std::string& name) {
  std::string key;
  for (const char c : name) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    key += plain ? c : '_';
  }
  return key;
}

// The id of a kind of token, as GGUFs name it.
std::string IdKey(const std::string& name) {
  if (name == "unk") return "tokenizer.ggml.unknown_token_id";
  if (name == "sep") return "tokenizer.ggml.seperator_token_id";  // spelled so by all
  if (name == "pad") return "tokenizer.ggml.padding_token_id";
  return fmt::format("tokenizer.ggml.{}_token_id", name);
}

void AddTemplates(const ImportedVocabulary& vocab, GgufKeys* keys) {
  std::vector<std::string> names;
  for (const auto& [name, text] : vocab.templates) {
    keys->emplace_back(name.empty() ? "tokenizer.chat_template"
                                    : fmt::format("tokenizer.chat_template.{}", KeyName(name)),
                       GgufValue::string(text));
    if (!name.empty()) names.push_back(KeyName(name));
  }
  if (!names.empty()) {
    keys->emplace_back("tokenizer.chat_templates", GgufValue::strings(std::move(names)));
  }
}

}  // namespace

std::optional<ImportedVocabulary> ReadHfVocabulary(const std::string& directory,
                                                   const VocabularyOptions& options) {
  const std::string pieces = directory + "/tokenizer.model";
  const std::string old_pieces = directory + "/spiece.model";
  const std::string fast = directory + "/tokenizer.json";
  ImportedVocabulary vocab;
  std::vector<AddedToken> added;
  std::string path;
  Json tokenizer;
  if (HasFile(fast)) tokenizer = ReadJsonFile(fast, kTokenizerBounds);
  if (HasFile(pieces) || HasFile(old_pieces)) {
    path = HasFile(pieces) ? pieces : old_pieces;
    vocab = ParseSentencepieceModel(ReadWholeFile(path, kMaxModelBytes), path);
    added = ReadAddedTokens(directory);
    if (tokenizer.is_object()) AppendAddedTokens(tokenizer, fast, &added);
  } else if (HasFile(fast)) {
    path = fast;
    vocab = ParseTokenizerJson(tokenizer, path, options, &added);
  } else if (HasFile(directory + "/vocab.json") && HasFile(directory + "/merges.txt")) {
    path = directory + "/vocab.json";
    vocab = ParseTokenizerJson(Gpt2Files(directory), path, options, &added);
    added = ReadAddedTokens(directory);
  } else {
    return std::nullopt;
  }
  if (!options.pretokenizer.empty() && vocab.model == "gpt2") vocab.pre = options.pretokenizer;
  if (vocab.model == "llama" && !options.add_space_prefix) vocab.add_space_prefix = false;
  AddTokens(added, options.vocab_size, path, &vocab);
  ReadSpecialTokens(directory, tokenizer.is_object() ? &tokenizer : nullptr, added, &vocab);
  TypeNamedTokens(&vocab);
  return vocab;
}

GgufKeys VocabularyKeys(const ImportedVocabulary& vocab) {
  GgufKeys keys;
  keys.emplace_back("tokenizer.ggml.model", GgufValue::string(vocab.model));
  keys.emplace_back("tokenizer.ggml.pre", GgufValue::string(vocab.pre));
  keys.emplace_back("tokenizer.ggml.tokens", GgufValue::strings(vocab.tokens));
  if (!vocab.normalizer.empty()) {
    keys.emplace_back(kNormalizerKey, GgufValue::string(vocab.normalizer));
  }
  if (!vocab.scores.empty()) {
    std::vector<double> scores(vocab.scores.begin(), vocab.scores.end());
    keys.emplace_back("tokenizer.ggml.scores", GgufValue::array(GgufType::kF32, std::move(scores)));
  }
  std::vector<int64_t> types;
  for (const TokenType type : vocab.types) types.push_back(static_cast<int64_t>(type));
  keys.emplace_back("tokenizer.ggml.token_type",
                    GgufValue::array(GgufType::kI32, std::move(types)));
  if (!vocab.merges.empty()) {
    keys.emplace_back("tokenizer.ggml.merges", GgufValue::strings(vocab.merges));
  }
  for (const auto& [name, id] : vocab.ids) {
    keys.emplace_back(IdKey(name), GgufValue::u32(static_cast<uint32_t>(id)));
  }
  if (!vocab.ends.empty()) {
    std::vector<int64_t> ends(vocab.ends.begin(), vocab.ends.end());
    keys.emplace_back("tokenizer.ggml.eos_token_ids",
                      GgufValue::array(GgufType::kI32, std::move(ends)));
  }
  const auto flag = [&](const char* key, const std::optional<bool>& value) {
    if (value) keys.emplace_back(key, GgufValue::boolean(*value));
  };
  flag("tokenizer.ggml.add_bos_token", vocab.add_bos);
  flag("tokenizer.ggml.add_eos_token", vocab.add_eos);
  flag("tokenizer.ggml.add_space_prefix", vocab.add_space_prefix);
  flag("tokenizer.ggml.remove_extra_whitespaces", vocab.remove_extra_spaces);
  if (!vocab.char_map.empty()) {
    std::vector<uint64_t> bytes;
    for (const char c : vocab.char_map) bytes.push_back(static_cast<uint8_t>(c));
    keys.emplace_back("tokenizer.ggml.precompiled_charsmap",
                      GgufValue::array(GgufType::kU8, std::move(bytes)));
  }
  AddTemplates(vocab, &keys);
  return keys;
}

}  // namespace thermocline
