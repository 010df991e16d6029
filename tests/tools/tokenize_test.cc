// The verb `tokenize`.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "runtime/gguf/gguf_reader.h"
#include "runtime/gguf/gguf_writer.h"
#include "runtime/text/byte_level.h"
#include "tests/tools/models.h"
#include "tests/tools/tool_process.h"

namespace thermocline {
namespace {

// Writes a vocabulary alone: the 256 bytes, "hi" 256, <|im_end|> 257 and <s> 258, which is BOS.
void WriteByteVocabulary(const std::string& path) {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) {
    tokens.emplace_back(ByteLevelChar(static_cast<uint8_t>(byte)));
  }
  for (const char* name : {"hi", "<|im_end|>", "<s>"}) tokens.emplace_back(name);
  std::vector<int64_t> types(tokens.size(), 1);
  types[257] = types[258] = 3;
  GgufWriter writer(path);
  writer.Set("tokenizer.ggml.model", GgufValue::string("gpt2"));
  writer.Set("tokenizer.ggml.pre", GgufValue::string("llama-bpe"));
  writer.Set("tokenizer.ggml.tokens", GgufValue::strings(tokens));
  writer.Set("tokenizer.ggml.token_type", GgufValue::array(GgufType::kI32, types));
  writer.Set("tokenizer.ggml.merges", GgufValue::strings({"h i"}));
  writer.Set("tokenizer.ggml.bos_token_id", GgufValue::u32(258));
  writer.Finish();
}

class TokenizeTest : public testing::Test {
 protected:
  TokenizeTest() { WriteByteVocabulary(dir_.file("vocabulary.gguf")); }
  std::string Tokenize(const std::vector<std::string>& arguments, const std::string& input = "") {
    std::vector<std::string> all = {"tokenize", "-m", dir_.file("vocabulary.gguf")};
    all.insert(all.end(), arguments.begin(), arguments.end());
    const ToolResult result = RunTool(all, input);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(result.err, "");
    return result.out;
  }
  TempDir dir_;
};

TEST_F(TokenizeTest, ATokenALineWithEscapes) {
  EXPECT_EQ(Tokenize({"-p", "hi'\n\\\xFF<|im_end|>"}),
            "   258  '<s>'\n"
            "   256  'hi'\n"
            "    39  '\\''\n"
            "    10  '\\n'\n"
            "    92  '\\\\'\n"
            "   255  '\\xff'\n"
            "   257  '<|im_end|>'\n");
}

TEST_F(TokenizeTest, IdsWithoutBosOrSpecialTokens) {
  EXPECT_EQ(Tokenize({"-p", "hi<s>", "--ids"}), "258 256 258\n");
  EXPECT_EQ(Tokenize({"-p", "hi<s>", "--ids", "--no-bos"}), "256 258\n");
  EXPECT_EQ(Tokenize({"-p", "hi<s>", "--ids", "--no-bos", "--no-special"}), "256 60 115 62\n");
  EXPECT_EQ(Tokenize({"-p", "", "--ids", "--no-bos"}), "\n");
  EXPECT_EQ(Tokenize({"-p", "", "--no-bos"}), "");
}

TEST_F(TokenizeTest, TextComesFromFilesAndStandardInputWhole) {
  WriteWholeFile(dir_.file("text"), "hi\n");
  EXPECT_EQ(Tokenize({"-f", dir_.file("text"), "--ids"}), "258 256 10\n");
  EXPECT_EQ(Tokenize({"--ids"}, "hi\n"), "258 256 10\n");
  EXPECT_EQ(Tokenize({"-f", "-", "--ids"}, "hi\n"), "258 256 10\n");
}

TEST_F(TokenizeTest, SentencepieceModelsToo) {
  const ToolResult result = RunTool({"tokenize", "-m", GoldenModel("gqa_relu"), "-p", "</s>"});
  EXPECT_EQ(result.out, "     1  '<s>'\n     2  '</s>'\n");
}

}  // namespace
}  // namespace thermocline
