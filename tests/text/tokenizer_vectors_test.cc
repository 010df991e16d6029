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
#include <vector>

#include "runtime/core/error.h"
#include "runtime/gguf/gguf_reader.h"
#include "runtime/text/sentencepiece_proto.h"
#include "runtime/text/sentencepiece_tokenizer.h"
#include "runtime/text/tokenizer.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

const char kSeparator[] = "\n__ggml_vocab_test__\n";

std::string data_path(const std::string& name) {
  return std::string(THERMOCLINE_SOURCE_DIR) + "/../shared/data/" + name;
}

class TokenizerVectorsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(data_path("README.md"))) {
      GTEST_SKIP() << "no test data at " << data_path("") << ": vectors not checked";
    }
  }
};

struct Vector {
  std::string text;
  std::vector<int32_t> ids;
};

std::vector<Vector> read_vectors(const std::string& stem) {
  const std::string inputs = read_whole_file(stem + ".inp");
  std::istringstream outputs(read_whole_file(stem + ".out"));
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

TEST_F(TokenizerVectorsTest, LlamaSentencePiece) {
  const std::string stem = data_path("tokenizers/ggml-vocab-llama-spm.gguf");
  const auto tokenizer = make_tokenizer(GgufReader(stem));
  EXPECT_EQ(tokenizer->vocab_size(), 32000);
  const std::vector<Vector> vectors = read_vectors(stem);
  ASSERT_GT(vectors.size(), 40U);
  for (const Vector& vector : vectors) {
    EXPECT_EQ(tokenizer->encode(vector.text), vector.ids) << "\"" << vector.text << "\"";
    EXPECT_EQ(tokenizer->decode(vector.ids), vector.text);
  }
  fmt::print("{} vectors checked\n", vectors.size());
}

TEST_F(TokenizerVectorsTest, OtherKindsAreRefused) {
  const GgufReader gguf(data_path("tokenizers/ggml-vocab-gpt-2.gguf"));
  EXPECT_THROW(make_tokenizer(gguf), Error);
}

TEST_F(TokenizerVectorsTest, GoldenPrompts) {
  const auto tokenizer = make_tokenizer(GgufReader(data_path("models/classics-9m-relu-f16.gguf")));
  const auto golden =
      nlohmann::json::parse(read_whole_file(data_path("models/classics-9m.golden.json")));
  ASSERT_FALSE(golden.at("prompts").empty());
  for (const auto& prompt : golden.at("prompts")) {
    const auto text = prompt.at("text").get<std::string>();
    EXPECT_EQ(tokenizer->encode_prompt(text), prompt.at("ids").get<std::vector<int32_t>>());
    // The continuation goes on in the middle of a text, so its first space stays, and the golden
    // file leaves it out.
    StreamDecoder decoder(*tokenizer, /*at_text_start=*/true);
    std::string continuation;
    for (const int32_t id : prompt.at("greedy_ids").get<std::vector<int32_t>>()) {
      continuation += decoder.push(id);
    }
    EXPECT_EQ(continuation + decoder.finish(), prompt.at("greedy_text").get<std::string>());
  }
}

TEST_F(TokenizerVectorsTest, BooksEncodeAsInOneCallAndComeBack) {
  const std::string text = read_whole_file(data_path("text/classics-calibration.txt"));
  for (const char* file : {"models/classics-9m-relu-f16.gguf", "models/stories260k-f32.gguf",
                           "tokenizers/ggml-vocab-llama-spm.gguf"}) {
    const GgufReader gguf(data_path(file));
    const auto tokenizer = make_tokenizer(gguf);
    const auto start = std::chrono::steady_clock::now();
    const std::vector<int32_t> ids = tokenizer->encode(text);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    fmt::print("{}: {} tokens of {} bytes in {:.2f} s ({:.1f} MB/s)\n", file, ids.size(),
               text.size(), seconds.count(),
               static_cast<double>(text.size()) / 1e6 / seconds.count());
    EXPECT_EQ(tokenizer->decode(ids), text);

    sentencepiece::SentencePieceProcessor processor;
    const std::string proto =
        sentencepiece_model_proto(read_sentencepiece_vocabulary(gguf), {/*add_dummy_prefix=*/true});
    ASSERT_TRUE(processor.LoadFromSerializedProto(proto).ok());
    const std::string part = text.substr(0, text.find('\n', 500000));
    std::vector<int> in_one_call;
    ASSERT_TRUE(processor.Encode(part, &in_one_call).ok());
    const std::vector<int32_t> cut = tokenizer->encode(part);
    EXPECT_TRUE(std::equal(cut.begin(), cut.end(), in_one_call.begin(), in_one_call.end()));
  }
}

}  // namespace
}  // namespace thermocline
