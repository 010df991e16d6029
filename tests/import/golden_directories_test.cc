// The directories of tests/golden/families, which transformers saved: every model becomes a GGUF of
// any type, and both tokenizers make of texts what transformers makes of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "runtime/gguf/gguf_reader.h"
#include "runtime/gguf/gguf_writer.h"
#include "runtime/import/import_model.h"
#include "runtime/import/imported_vocabulary.h"
#include "runtime/text/tokenizer.h"
#include "tests/support/message_of.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

using Json = nlohmann::json;

std::string GoldenFamilies() {
  return std::string(THERMOCLINE_SOURCE_DIR) + "/tests/golden/families/";
}

Json GoldenOf(const std::string& directory) {
  std::ifstream file(directory + "/golden.json");
  return Json::parse(file);
}

std::vector<std::string> GoldenModels() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(GoldenFamilies())) {
    if (std::filesystem::exists(entry.path() / "config.json")) {
      names.push_back(entry.path().filename());
    }
  }
  std::ranges::sort(names);
  return names;
}

class GoldenDirectory : public testing::TestWithParam<std::string> {};

TEST_P(GoldenDirectory, BecomesAFile) {
  TempDir dir;
  const std::string source = GoldenFamilies() + GetParam();
  for (const char* type : {"", "Q4_K_M"}) {
    ImportOptions options;
    if (*type != '\0') options.rule = ParseTypeRule(type);
    ImportReport report;
    ASSERT_EQ(MessageOf([&] { report = ImportModel(source, dir.file("m.gguf"), options); }), "");
    const GgufReader gguf(dir.file("m.gguf"));
    ASSERT_EQ(gguf.tensors().size(), report.changes.size());
    for (const TensorChange& change : report.changes) {
      EXPECT_LT(change.relative_rms_error, 0.2) << change.name;
    }
    EXPECT_EQ(gguf.RequireString("general.architecture"), report.architecture);
  }
}

INSTANTIATE_TEST_SUITE_P(Transformers, GoldenDirectory, testing::ValuesIn(GoldenModels()),
                         [](const auto& test) { return test.param; });

class GoldenTokenizer : public testing::TestWithParam<const char*> {};

TEST_P(GoldenTokenizer, MakesTheSameIds) {
  const std::string source = GoldenFamilies() + GetParam();
  const auto vocab = ReadHfVocabulary(source, {.vocab_size = 288});
  ASSERT_TRUE(vocab.has_value());
  TempDir dir;
  GgufWriter writer(dir.file("v.gguf"));
  for (const auto& [key, value] : VocabularyKeys(*vocab)) writer.Set(key, value);
  writer.Finish();
  const GgufReader gguf(dir.file("v.gguf"));
  const auto tokenizer = MakeTokenizer(gguf);
  const Json golden = GoldenOf(source);
  for (const Json& text : golden["texts"]) {
    const auto ids = tokenizer->Encode(text["text"].get<std::string>(), /*parse_special=*/true);
    EXPECT_EQ(ids, text["ids_without_special"].get<std::vector<int32_t>>()) << text["text"];
    const auto whole = text["ids"].get<std::vector<int32_t>>();
    EXPECT_EQ(tokenizer->add_bos(), !whole.empty() && whole.front() == tokenizer->bos_id());
  }
}

INSTANTIATE_TEST_SUITE_P(Transformers, GoldenTokenizer,
                         testing::Values("tokenizer_bpe", "tokenizer_bpe_nfc", "tokenizer_spm"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace thermocline
