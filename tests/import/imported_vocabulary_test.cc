// Tokenizers of Hugging Face models as vocabularies of a GGUF.
#include "runtime/import/imported_vocabulary.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/gguf/gguf_writer.h"
#include "runtime/text/byte_level.h"
#include "runtime/text/sentencepiece_proto.h"
#include "runtime/text/tokenizer.h"
#include "tests/import/hf_directory.h"

namespace thermocline {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Json = nlohmann::json;

constexpr const char* kLlama3Regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kDeepseekRegex =
    "[!\"#$%&'()*+,\\-./"
    ":;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "
    "?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

Json Split(const char* regex) {
  return {{"type", "Split"},
          {"pattern", {{"Regex", regex}}},
          {"behavior", "Isolated"},
          {"invert", false}};
}
Json ByteLevelStep(bool use_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", use_regex}};
}
Json SequenceOf(const Json& steps) { return {{"type", "Sequence"}, {"pretokenizers", steps}}; }

// A byte-level tokenizer: all bytes, "he", "hel"; <|end|> is added.
Json ByteLevelTokenizer(const Json& pre_tokenizer) {
  Json vocab = Json::object();
  for (int byte = 0; byte < 256; ++byte) {
    vocab[std::string(ByteLevelChar(static_cast<uint8_t>(byte)))] = byte;
  }
  vocab["he"] = 256;
  vocab["hel"] = 257;
  return {{"pre_tokenizer", pre_tokenizer},
          {"added_tokens", {{{"id", 258}, {"content", "<|end|>"}, {"special", true}}}},
          {"model",
           {{"type", "BPE"},
            {"vocab", vocab},
            {"merges", Json::array({Json::array({"h", "e"}), Json::array({"he", "l"})})},
            {"ignore_merges", false}}}};
}

class VocabularyDirectory {
 public:
  std::string ReadMessage(const VocabularyOptions& options = {}) {
    return MessageOf([&] { vocab = ReadHfVocabulary(dir_.path(), options); });
  }
  void Write(const std::string& name, const Json& json) {
    WriteWholeFile(dir_.file(name), json.dump());
  }
  void WriteText(const std::string& name, const std::string& text) {
    WriteWholeFile(dir_.file(name), text);
  }
  // Makes the tokenizer of a GGUF with the vocabulary.
  std::unique_ptr<Tokenizer> Make() {
    GgufWriter writer(dir_.file("v.gguf"));
    for (const auto& [key, value] : VocabularyKeys(*vocab)) writer.Set(key, value);
    writer.Finish();
    const GgufReader gguf(dir_.file("v.gguf"));
    return MakeTokenizer(gguf);
  }
  std::optional<ImportedVocabulary> vocab;

 private:
  TempDir dir_;
};

TEST(ImportedVocabulary, ByteLevel) {
  VocabularyDirectory dir;
  EXPECT_EQ(dir.ReadMessage(), "");
  EXPECT_FALSE(dir.vocab.has_value());
  dir.Write("tokenizer.json", ByteLevelTokenizer(ByteLevelStep(true)));
  dir.Write("tokenizer_config.json",
            {{"eos_token", "<|end|>"}, {"add_bos_token", false}, {"chat_template", "{{ x }}"}});
  ASSERT_EQ(dir.ReadMessage({.vocab_size = 262}), "");
  const ImportedVocabulary& vocab = *dir.vocab;
  EXPECT_EQ(vocab.model, "gpt2");
  EXPECT_EQ(vocab.pre, "gpt-2");
  ASSERT_EQ(vocab.tokens.size(), 262U);
  EXPECT_EQ(vocab.types[257], TokenType::kNormal);
  EXPECT_EQ(vocab.types[258], TokenType::kControl);
  EXPECT_EQ(vocab.tokens[259], "[PAD259]");
  EXPECT_EQ(vocab.types[259], TokenType::kUnused);
  EXPECT_THAT(vocab.merges, ElementsAre("h e", "he l"));
  EXPECT_EQ(vocab.ids.at("eos"), 258);
  EXPECT_EQ(vocab.add_bos, false);
  EXPECT_EQ(vocab.templates.at(""), "{{ x }}");
  const auto tokenizer = dir.Make();
  EXPECT_THAT(tokenizer->Encode("hel"), ElementsAre(257));
  EXPECT_EQ(tokenizer->eos_id(), 258);
  EXPECT_THAT(dir.ReadMessage({.vocab_size = 100}),
              HasSubstr("at most the model's vocab_size 100"));
}

// What a byte-level tokenizer normalises texts by is kept, and read where texts are encoded.
TEST(ImportedVocabulary, KeepsTheFormThatTextsArePutInto) {
  const auto read = [](VocabularyDirectory& dir, const Json& normalizer) {
    Json json = ByteLevelTokenizer(ByteLevelStep(true));
    json["normalizer"] = normalizer;
    dir.Write("tokenizer.json", json);
    return dir.ReadMessage();
  };
  VocabularyDirectory dir;
  const Json nfc = {{"type", "NFC"}};
  for (const Json& normalizer :
       {nfc, Json{{"type", "Sequence"}, {"normalizers", Json::array({nfc})}}}) {
    ASSERT_EQ(read(dir, normalizer), "");
    EXPECT_EQ(dir.vocab->normalizer, "NFC");
    const auto tokenizer = dir.Make();
    EXPECT_EQ(tokenizer->Decode(tokenizer->Encode("he\xCC\x81")), "h\xC3\xA9");
  }
  for (const Json& normalizer :
       {Json(), Json{{"type", "Sequence"}, {"normalizers", Json::array()}}}) {
    ASSERT_EQ(read(dir, normalizer), "");
    EXPECT_EQ(dir.vocab->normalizer, "");
    const auto tokenizer = dir.Make();
    EXPECT_EQ(tokenizer->Decode(tokenizer->Encode("he\xCC\x81")), "he\xCC\x81");
  }
  EXPECT_THAT(read(dir, {{"type", "Lowercase"}}), HasSubstr("found \"Lowercase\""));
  const Json two = {{"type", "Sequence"},
                    {"normalizers", Json::array({nfc, {{"type", "StripAccents"}}})}};
  EXPECT_THAT(read(dir, two), HasSubstr("found \"NFC, StripAccents\""));
}

struct Cut {
  const char* name;
  Json pre_tokenizer;
  bool ignore_merges = false;
};

class PretokenizerMatch : public testing::TestWithParam<Cut> {};

TEST_P(PretokenizerMatch, IsRecognised) {
  Json tokenizer = ByteLevelTokenizer(GetParam().pre_tokenizer);
  tokenizer["model"]["ignore_merges"] = GetParam().ignore_merges;
  const auto name = RecognisePretokenizer(tokenizer);
  EXPECT_EQ(name.value_or(""), GetParam().name);
}

INSTANTIATE_TEST_SUITE_P(
    Known, PretokenizerMatch,
    testing::Values(Cut{"gpt-2", ByteLevelStep(true)},
                    Cut{"llama-bpe", SequenceOf({Split(kLlama3Regex), ByteLevelStep(false)}), true},
                    Cut{"dbrx", SequenceOf({Split(kLlama3Regex), ByteLevelStep(false)})},
                    Cut{"starcoder", SequenceOf({{{"type", "Digits"}, {"individual_digits", true}},
                                                 ByteLevelStep(true)})},
                    Cut{"falcon", SequenceOf({{{"type", "Punctuation"}, {"behavior", "Contiguous"}},
                                              ByteLevelStep(true),
                                              {{"type", "Digits"}, {"individual_digits", false}},
                                              Split("[0-9][0-9][0-9]")})},
                    Cut{"deepseek-v3",
                        SequenceOf({Split("\\p{N}{1,3}"),
                                    Split("[\xE4\xB8\x80-\xE9\xBE\xA5\xE3\x81\x80-\xE3\x82\x9F"
                                          "\xE3\x82\xA0-\xE3\x83\xBF]+"),
                                    Split(kDeepseekRegex), ByteLevelStep(false)})}),
    [](const auto& test) {
      std::string name = test.param.name;
      std::replace(name.begin(), name.end(), '-', '_');
      return name;
    });

TEST(PretokenizerMatch, OthersAreNamedByTheUser) {
  VocabularyDirectory dir;
  dir.Write("tokenizer.json", ByteLevelTokenizer(SequenceOf({Split("x+"), ByteLevelStep(false)})));
  EXPECT_THAT(dir.ReadMessage(), HasSubstr("pre-tokenizer: expected one that is known"));
  EXPECT_EQ(dir.ReadMessage({.pretokenizer = "qwen2"}), "");
  EXPECT_EQ(dir.vocab->pre, "qwen2");
  EXPECT_THAT(dir.ReadMessage({.pretokenizer = "magic"}), HasSubstr("found \"magic\""));
}

TEST(ImportedVocabulary, SentencepieceLikeBpe) {
  Json vocab = {{"<unk>", 0}, {"<s>", 1}, {"</s>", 2}};
  for (int byte = 0; byte < 256; ++byte) vocab[fmt::format("<0x{:02X}>", byte)] = 3 + byte;
  const std::vector<std::string> pieces = {"\xE2\x96\x81", "h", "e", "he", "\xE2\x96\x81he"};
  for (size_t i = 0; i < pieces.size(); ++i) vocab[pieces[i]] = 259 + i;
  VocabularyDirectory dir;
  dir.Write("tokenizer.json",
            {{"normalizer", {{"type", "Prepend"}, {"prepend", "\xE2\x96\x81"}}},
             {"added_tokens",
              {{{"id", 0}, {"content", "<unk>"}, {"special", true}},
               {{"id", 1}, {"content", "<s>"}, {"special", true}},
               {{"id", 2}, {"content", "</s>"}, {"special", true}}}},
             {"post_processor",
              {{"type", "TemplateProcessing"},
               {"single", {{{"SpecialToken", {{"id", "<s>"}}}}, {{"Sequence", {{"id", "A"}}}}}}}},
             {"model",
              {{"type", "BPE"},
               {"byte_fallback", true},
               {"unk_token", "<unk>"},
               {"vocab", vocab},
               {"merges", {"h e", "\xE2\x96\x81 he"}}}}});
  ASSERT_EQ(dir.ReadMessage(), "");
  EXPECT_EQ(dir.vocab->model, "llama");
  EXPECT_EQ(dir.vocab->types[0], TokenType::kUnknown);
  EXPECT_EQ(dir.vocab->types[3], TokenType::kByte);
  EXPECT_EQ(dir.vocab->add_bos, true);
  EXPECT_EQ(dir.vocab->add_space_prefix, true);
  EXPECT_THAT(dir.Make()->Encode("he"), ElementsAre(263));
}

TEST(ImportedVocabulary, Unigram) {
  VocabularyDirectory dir;
  Json pieces = Json::array();
  const std::pair<const char*, double> scored[] = {{"<pad>", 0},         {"</s>", 0},
                                                   {"<unk>", 0},         {"\xE2\x96\x81he", -1.5},
                                                   {"\xE2\x96\x81", -2}, {"h", -3}};
  for (const auto& [text, score] : scored) pieces.push_back(Json::array({text, score}));
  Json tokenizer = {{"pre_tokenizer", {{"type", "Metaspace"}}},
                    {"model", {{"type", "Unigram"}, {"unk_id", 2}, {"vocab", pieces}}}};
  dir.Write("tokenizer.json", tokenizer);
  ASSERT_EQ(dir.ReadMessage(), "");
  EXPECT_EQ(dir.vocab->model, "t5");
  EXPECT_THAT(dir.Make()->Encode("he h"), ElementsAre(3, 4, 5));
  tokenizer["model"]["unk_id"] = 6;
  dir.Write("tokenizer.json", tokenizer);
  EXPECT_THAT(dir.ReadMessage(), HasSubstr("model.unk_id"));
  tokenizer["model"]["vocab"][0][1] = "x";
  dir.Write("tokenizer.json", tokenizer);
  EXPECT_THAT(dir.ReadMessage(), HasSubstr("pieces and finite scores"));
}

// A sentencepiece model as the library itself reads it.
std::string PiecesModel() {
  Vocabulary vocab;
  vocab.tokens = {"<unk>", "<s>", "</s>", "h", "e", "he"};
  vocab.scores = {0, 0, 0, -2, -3, -1};
  vocab.types = {TokenType::kUnknown, TokenType::kControl, TokenType::kControl,
                 TokenType::kNormal,  TokenType::kNormal,  TokenType::kNormal};
  vocab.bos_id = 1;
  vocab.eos_id = 2;
  return SentencepieceModelProto(vocab, {.add_dummy_prefix = true});
}

TEST(ImportedVocabulary, SentencepieceModel) {
  VocabularyDirectory dir;
  dir.WriteText("tokenizer.model", PiecesModel());
  dir.Write("added_tokens.json", {{"<tool>", 6}});
  dir.Write("tokenizer_config.json",
            {{"added_tokens_decoder", {{"7", {{"content", "<|im_end|>"}, {"special", true}}}}},
             {"pad_token", {{"content", "<tool>"}}}});
  dir.Write("config.json", {{"bos_token_id", 1}});
  dir.Write("generation_config.json", {{"eos_token_id", {2, 7}}});
  ASSERT_EQ(dir.ReadMessage({.vocab_size = 10}), "");
  const ImportedVocabulary& vocab = *dir.vocab;
  EXPECT_EQ(vocab.model, "llama");
  EXPECT_EQ(vocab.tokens[5], "he");
  EXPECT_EQ(vocab.scores[5], -1);
  EXPECT_EQ(vocab.add_space_prefix, true);
  EXPECT_EQ(vocab.tokens[6], "<tool>");
  EXPECT_EQ(vocab.types[6], TokenType::kUserDefined);
  EXPECT_EQ(vocab.ids.at("pad"), 6);
  EXPECT_EQ(vocab.types[7], TokenType::kControl);
  EXPECT_EQ(vocab.types[9], TokenType::kUnused);
  EXPECT_EQ(vocab.ids.at("bos"), 1);
  EXPECT_EQ(vocab.ids.at("eos"), 2);
  EXPECT_THAT(vocab.ends, ElementsAre(2, 7));
}

TEST(ImportedVocabulary, DamagedSentencepieceModels) {
  const std::string whole = PiecesModel();
  int n_refused = 0;
  for (size_t size = 0; size < whole.size(); ++size) {
    const std::string message =
        MessageOf([&] { ParseSentencepieceModel(whole.substr(0, size), "tokenizer.model"); });
    n_refused += message.empty() ? 0 : 1;
  }
  EXPECT_GT(n_refused, static_cast<int>(whole.size() / 2));
  for (size_t at = 0; at < whole.size(); ++at) {
    std::string changed = whole;
    changed[at] = static_cast<char>(changed[at] ^ 0xFF);
    const std::string message =
        MessageOf([&] { ParseSentencepieceModel(changed, "tokenizer.model"); });
    EXPECT_THAT(message, Not(HasSubstr("\n")));
  }
}

// Whatever kind of value stands in a tokenizer.json, there is a vocabulary or an Error.
TEST(ImportedVocabulary, TakesOrRefusesValuesOfEveryKind) {
  const Json kinds[] = {nullptr, true, -1, 1 << 30, 0.5, "x", Json::array(), {1, 2}, {{"a", 1}}};
  const Json whole = ByteLevelTokenizer(SequenceOf({Split(kLlama3Regex), ByteLevelStep(false)}));
  std::vector<Json::json_pointer> places;
  const Json flat = whole.flatten();
  for (const auto& [place, value] : flat.items()) {
    for (Json::json_pointer at(place); !at.empty(); at.pop_back()) {
      const bool of_vocabulary = at.to_string().find("/model/vocab/") == 0 && at.back() != "hel";
      if (!of_vocabulary) places.push_back(at);
    }
  }
  for (const auto& place : places) {
    for (const Json& kind : kinds) {
      Json changed = whole;
      changed[place] = kind;
      const std::string message = MessageOf([&] {
        std::vector<AddedToken> added;
        ImportedVocabulary vocab = ParseTokenizerJson(changed, "tokenizer.json", {}, &added);
        AddTokens(added, std::nullopt, "tokenizer.json", &vocab);
      });
      EXPECT_THAT(message, Not(HasSubstr("\n"))) << place << ": " << kind;
    }
  }
}

}  // namespace
}  // namespace thermocline
