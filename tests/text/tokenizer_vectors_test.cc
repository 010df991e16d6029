// Encode vectors that another implementation made. They are not part of the project: they are read
// from the data folder beside the checkout where there is one.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sentencepiece_processor.h>

#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "runtime/gguf/gguf_reader.h"
#include "runtime/text/sentencepiece_proto.h"
#include "runtime/text/sentencepiece_tokenizer.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/unigram_tokenizer.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

const char kSeparator[] = "\n__ggml_vocab_test__\n";

std::string DataPath(const std::string& name) {
  return std::string(THERMOCLINE_SOURCE_DIR) + "/../shared/data/" + name;
}

class TokenizerVectorsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(DataPath("README.md"))) {
      GTEST_SKIP() << "no test data at " << DataPath("") << ": vectors not checked";
    }
  }
};

struct Vector {
  std::string text;
  std::vector<int32_t> ids;
};

std::vector<Vector> ReadVectors(const std::string& stem) {
  const std::string inputs = ReadWholeFile(stem + ".inp");
  std::istringstream outputs(ReadWholeFile(stem + ".out"));
  std::vector<Vector> vectors;
  for (size_t begin = 0;;) {
    const size_t end = inputs.find(kSeparator, begin);
    if (end == std::string::npos) break;  // what follows the last separator is no input
    Vector vector{inputs.substr(begin, end - begin), {}};
    std::string line;
    EXPECT_TRUE(std::getline(outputs, line)) << "fewer outputs than inputs";
    std::istringstream ids(line);
    for (int32_t id; ids >> id;) vector.ids.push_back(id);
    vectors.push_back(std::move(vector));
    begin = end + sizeof(kSeparator) - 1;
  }
  return vectors;
}

void ExpectVectors(const Tokenizer& tokenizer, const std::string& stem) {
  const std::vector<Vector> vectors = ReadVectors(stem);
  ASSERT_GT(vectors.size(), 40U);
  for (const Vector& vector : vectors) {
    EXPECT_EQ(tokenizer.Encode(vector.text), vector.ids) << "\"" << vector.text << "\"";
    EXPECT_EQ(tokenizer.Decode(vector.ids), vector.text);
  }
  fmt::print("{} vectors checked\n", vectors.size());
}

TEST_F(TokenizerVectorsTest, LlamaSentencePiece) {
  const std::string stem = DataPath("tokenizers/ggml-vocab-llama-spm.gguf");
  const auto tokenizer = MakeTokenizer(GgufReader(stem));
  EXPECT_EQ(tokenizer->vocab_size(), 32000);
  ExpectVectors(*tokenizer, stem);
}

TEST_F(TokenizerVectorsTest, Gpt2) {
  const std::string stem = DataPath("tokenizers/ggml-vocab-gpt-2.gguf");
  const auto tokenizer = MakeTokenizer(GgufReader(stem));
  EXPECT_EQ(tokenizer->vocab_size(), 50257);
  EXPECT_FALSE(tokenizer->add_bos());
  ExpectVectors(*tokenizer, stem);
}

void ExpectBooksComeBack(const Tokenizer& tokenizer) {
  const std::string text = ReadWholeFile(DataPath("text/classics-calibration.txt"));
  for (const char* state : {"new", "warm"}) {
    const auto start = std::chrono::steady_clock::now();
    const std::vector<int32_t> ids = tokenizer.Encode(text);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    fmt::print("{}: {} tokens of {} bytes in {:.3f} s ({:.1f} MB/s)\n", state, ids.size(),
               text.size(), seconds.count(),
               static_cast<double>(text.size()) / 1e6 / seconds.count());
    EXPECT_EQ(tokenizer.Decode(ids), text);
  }
}

TEST_F(TokenizerVectorsTest, BooksComeBackFromByteLevelIds) {
  ExpectBooksComeBack(*MakeTokenizer(GgufReader(DataPath("tokenizers/ggml-vocab-gpt-2.gguf"))));
}

TEST_F(TokenizerVectorsTest, BooksComeBackFromUnigramIds) {
  // The pieces and scores of SentencePiece BPE are as good as others for this.
  UnigramVocabulary unigram;
  unigram.vocab =
      ReadSentencepieceVocabulary(GgufReader(DataPath("tokenizers/ggml-vocab-llama-spm.gguf")));
  ExpectBooksComeBack(UnigramTokenizer(std::move(unigram)));
}

TEST_F(TokenizerVectorsTest, GoldenPrompts) {
  const auto tokenizer = MakeTokenizer(GgufReader(DataPath("models/classics-9m-relu-f16.gguf")));
  const auto golden =
      nlohmann::json::parse(ReadWholeFile(DataPath("models/classics-9m.golden.json")));
  ASSERT_FALSE(golden.at("prompts").empty());
  for (const auto& prompt : golden.at("prompts")) {
    const auto text = prompt.at("text").get<std::string>();
    EXPECT_EQ(tokenizer->EncodePrompt(text), prompt.at("ids").get<std::vector<int32_t>>());
    // The continuation goes on in the middle of a text, so its first space stays, and the golden
    // file leaves it out.
    StreamDecoder decoder(*tokenizer, /*at_text_start=*/true);
    std::string continuation;
    for (const int32_t id : prompt.at("greedy_ids").get<std::vector<int32_t>>()) {
      continuation += decoder.Push(id);
    }
    EXPECT_EQ(continuation + decoder.Finish(), prompt.at("greedy_text").get<std::string>());
  }
}

TEST_F(TokenizerVectorsTest, BooksEncodeAsInOneCallAndComeBack) {
  const std::string text = ReadWholeFile(DataPath("text/classics-calibration.txt"));
  for (const char* file : {"models/classics-9m-relu-f16.gguf", "models/stories260k-f32.gguf",
                           "tokenizers/ggml-vocab-llama-spm.gguf"}) {
    const GgufReader gguf(DataPath(file));
    const auto tokenizer = MakeTokenizer(gguf);
    fmt::print("{}\n", file);
    ExpectBooksComeBack(*tokenizer);

    sentencepiece::SentencePieceProcessor processor;
    const std::string proto =
        SentencepieceModelProto(ReadSentencepieceVocabulary(gguf), {/*add_dummy_prefix=*/true});
    ASSERT_TRUE(processor.LoadFromSerializedProto(proto).ok());
    const std::string part = text.substr(0, text.find('\n', 500000));
    std::vector<int> in_one_call;
    ASSERT_TRUE(processor.Encode(part, &in_one_call).ok());
    const std::vector<int32_t> cut = tokenizer->Encode(part);
    EXPECT_TRUE(std::equal(cut.begin(), cut.end(), in_one_call.begin(), in_one_call.end()));
  }
}

}  // namespace
}  // namespace thermocline
