// A model with an encoder on the command line: T5 with a unigram vocabulary.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "runtime/gguf/gguf_writer.h"
#include "runtime/import/import_model.h"
#include "runtime/text/tokenizer.h"
#include "tests/support/temp_dir.h"
#include "tests/tools/tool_process.h"

namespace thermocline {
namespace {

using testing::HasSubstr;
using testing::Not;
using Arguments = std::vector<std::string>;

class EncoderRun : public testing::Test {
 protected:
  // Puts a vocabulary of pieces beside the golden T5, whose embeddings are cut or repeated for it.
  EncoderRun() {
    const std::string tests = std::string(THERMOCLINE_SOURCE_DIR) + "/tests/";
    const std::string bare = dir_.file("bare.gguf");
    ImportOptions options;
    options.rule = ParseTypeRule("F32");
    ImportModel(tests + "golden/families/t5", bare, options);
    const GgufReader model(bare);
    const GgufReader vocabulary(tests + "text/goldens/unigram_t5.gguf");
    const auto tokenizer = MakeTokenizer(vocabulary);
    n_prompt_ = tokenizer->EncodeWhole(kPrompt).size();
    EXPECT_EQ(tokenizer->EncodeWhole(kPrompt).back(), tokenizer->eos_id());
    const auto n_tokens = static_cast<uint64_t>(tokenizer->vocab_size());
    GgufWriter out(path_);
    for (const std::string& key : model.keys()) {
      if (!key.starts_with("tokenizer.") && key != "t5.vocab_size") out.Set(key, *model.Find(key));
    }
    for (const std::string& key : vocabulary.keys()) {
      if (key.starts_with("tokenizer.")) out.Set(key, *vocabulary.Find(key));
    }
    const auto is_table = [](const GgufTensorInfo& t) { return t.name == "token_embd.weight"; };
    for (const GgufTensorInfo& tensor : model.tensors()) {
      std::vector<uint64_t> dims = tensor.dims;
      if (is_table(tensor)) dims[1] = n_tokens;
      out.DeclareTensor(tensor.name, tensor.dtype, dims);
    }
    for (const GgufTensorInfo& tensor : model.tensors()) {
      const std::byte* const data = model.TensorData(tensor);
      std::vector<std::byte> bytes(data, data + tensor.n_bytes);
      if (is_table(tensor)) bytes = Repeated(bytes, tensor.n_bytes / tensor.rows() * n_tokens);
      out.WriteTensor(tensor.name, bytes.data(), bytes.size());
    }
    out.Finish();
  }

  static std::vector<std::byte> Repeated(const std::vector<std::byte>& bytes, uint64_t n_bytes) {
    std::vector<std::byte> repeated(n_bytes);
    for (uint64_t i = 0; i < n_bytes; ++i) repeated[i] = bytes[i % bytes.size()];
    return repeated;
  }

  // Returns what a verb says on the model.
  ToolResult Tool(const std::string& verb, const Arguments& more) const {
    Arguments arguments = {verb, "-m", path_};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunTool(arguments);
  }

  void ExpectRefused(const std::string& verb, const Arguments& more, const char* why) const {
    const ToolResult result = Tool(verb, more);
    EXPECT_EQ(result.exit_code, 1) << verb;
    EXPECT_THAT(result.err, HasSubstr(why));
    EXPECT_EQ(result.err.find('\n'), result.err.size() - 1) << result.err;
  }

  static constexpr const char* kPrompt = "The captain looked at the sea";

  TempDir dir_;
  std::string path_ = dir_.file("t5.gguf");
  size_t n_prompt_ = 0;
};

TEST_F(EncoderRun, AnswersATextDenseAndExactAndWithBeams) {
  const Arguments base = {"-p", kPrompt, "--temp",           "0", "-n",          "12", "-t", "2",
                          "-c", "64",    "--repeat-penalty", "1", "--fast-tier", "cpu"};
  const auto with = [&](Arguments more) {
    more.insert(more.begin(), base.begin(), base.end());
    return Tool("run", more);
  };
  const ToolResult dense = with({"--sparse", "dense"});
  ASSERT_EQ(dense.exit_code, 0) << dense.err;
  EXPECT_GT(dense.out.size(), 1U);
  EXPECT_THAT(dense.out, Not(HasSubstr(kPrompt)));
  EXPECT_THAT(dense.err, HasSubstr(fmt::format("prompt   {} tokens", n_prompt_)));
  const ToolResult exact = with({"--sparse", "exact"});
  EXPECT_EQ(exact.out, dense.out);
  EXPECT_THAT(exact.err, HasSubstr("FFN sparsity"));
  const ToolResult beams = with({"--beams", "4"});
  EXPECT_EQ(beams.exit_code, 0) << beams.err;
  EXPECT_THAT(beams.err, HasSubstr(fmt::format("prompt   {} tokens", n_prompt_)));
  EXPECT_EQ(with({"--dry-run"}).exit_code, 0);
}

TEST_F(EncoderRun, WhatMakesNoSenseIsRefusedInOneLine) {
  const std::string text = dir_.file("text");
  WriteWholeFile(text, "The captain looked at the sea. The captain looked at the sea.");
  ExpectRefused("run", {"-p", kPrompt, "-i", "--fast-tier", "cpu"}, "answers one text");
  const char* const encoder = "does not take models with an encoder";
  ExpectRefused("perplexity", {"-f", text, "--fast-tier", "cpu"}, encoder);
  ExpectRefused("bench", {"--fast-tier", "cpu"}, encoder);
  ExpectRefused("profile", {"-f", text, "-o", dir_.file("profile")}, encoder);
  ExpectRefused("predictor", {"-f", text, "-o", dir_.file("predictor")}, encoder);
}

TEST_F(EncoderRun, IsInspected) {
  const ToolResult result = RunTool({"inspect", path_, "--json"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("\"n_encoder_layers\": 3"));
  EXPECT_THAT(result.out, HasSubstr("\"runs\": true"));
}

}  // namespace
}  // namespace thermocline
