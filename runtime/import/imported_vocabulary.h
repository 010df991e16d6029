// The vocabulary of a Hugging Face model, as a GGUF describes one (`tokenizer.ggml.*`).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/import/config_keys.h"
#include "runtime/import/hf_config.h"
#include "runtime/text/vocabulary.h"

namespace thermocline {

struct ImportedVocabulary {
  std::string model;  // tokenizer.ggml.model: "llama", "gpt2", "t5"
  std::string pre;    // tokenizer.ggml.pre
  std::vector<std::string> tokens;
  std::vector<TokenType> types;
  std::vector<float> scores;        // none in a byte-level one
  std::vector<std::string> merges;  // "left right"; a byte-level one's
  std::string normalizer;           // the name of a UnicodeForm; "": the file says nothing
  std::string char_map;             // of a normaliser, as sentencepiece compiles it
  std::optional<bool> add_space_prefix = {};
  std::optional<bool> remove_extra_spaces = {};
  std::optional<bool> add_bos = {};
  std::optional<bool> add_eos = {};
  std::map<std::string, int32_t> ids;            // "bos", "eos", ...
  std::vector<int32_t> ends = {};                // all ids that end a reply, where several do
  std::map<std::string, std::string> templates;  // "" is the default one
};

struct VocabularyOptions {
  std::string pretokenizer = {};           // a name that counts instead of what is recognised
  bool add_space_prefix = true;            // the family's, of SentencePiece vocabularies
  std::optional<int64_t> vocab_size = {};  // tokens that the model has; missing ones are unused
};

// Reads the vocabulary of the model in a directory: tokenizer.model, else tokenizer.json, else
// vocab.json and merges.txt, and what tokenizer_config.json and its kin say of it. nullopt where
// there is none of them. Throws Error for one that cannot be put into a GGUF.
std::optional<ImportedVocabulary> ReadHfVocabulary(const std::string& directory,
                                                   const VocabularyOptions& options);

// The keys of a vocabulary.
GgufKeys VocabularyKeys(const ImportedVocabulary& vocab);

// ---- parts ----

// A token that was added to a vocabulary, which is cut out of a text before it is tokenized.
struct AddedToken {
  int32_t id = 0;
  std::string text;
  bool special = false;
};

// Reads a tokenizer.json.
ImportedVocabulary ParseTokenizerJson(const nlohmann::json& json, const std::string& path,
                                      const VocabularyOptions& options,
                                      std::vector<AddedToken>* added);
// Reads a sentencepiece model: a protocol buffer (src/sentencepiece_model.proto of that project).
ImportedVocabulary ParseSentencepieceModel(std::string_view bytes, const std::string& path);

// Reads the tokens that files beside a tokenizer.model add to it.
std::vector<AddedToken> ReadAddedTokens(const std::string& directory);
// Appends those of a tokenizer.json.
void AppendAddedTokens(const nlohmann::json& tokenizer, const std::string& path,
                       std::vector<AddedToken>* added);
// Puts added tokens where they belong, and fills up to vocab_size.
void AddTokens(const std::vector<AddedToken>& added, std::optional<int64_t> vocab_size,
               const std::string& path, ImportedVocabulary* vocab);

// Returns the name of the pre-tokenizer that cuts as a tokenizer.json says, or nullopt.
std::optional<std::string> RecognisePretokenizer(const nlohmann::json& tokenizer);

// Reads what tokenizer_config.json, special_tokens_map.json, config.json, generation_config.json
// and the chat templates say.
void ReadSpecialTokens(const std::string& directory, const nlohmann::json* tokenizer,
                       const std::vector<AddedToken>& added, ImportedVocabulary* vocab);

}  // namespace thermocline
