// Files of other makers, where the shared data lies beside the checkout.
#include <gtest/gtest.h>

#include <filesystem>

#include "runtime/gguf/gguf_reader.h"
#include "runtime/gguf/gguf_writer.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

const std::string kData = std::string(THERMOCLINE_SOURCE_DIR) + "/../shared/data/";

class GgufRealFileTest : public testing::TestWithParam<const char*> {};

TEST_P(GgufRealFileTest, CopyHasTheSameBytes) {
  const std::string path = kData + GetParam();
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not there";
  const TempDir dir;
  const GgufReader reader(path);
  GgufWriter writer(dir.file("copy.gguf"), reader.alignment());
  for (const std::string& key : reader.keys()) writer.Set(key, *reader.Find(key));
  for (const GgufTensorInfo& tensor : reader.tensors()) {
    writer.DeclareTensor(tensor.name, tensor.dtype, tensor.dims);
  }
  for (const GgufTensorInfo& tensor : reader.tensors()) {
    writer.WriteTensor(tensor.name, reader.TensorData(tensor), tensor.n_bytes);
  }
  writer.Finish();
  EXPECT_TRUE(ReadWholeFile(path) == ReadWholeFile(dir.file("copy.gguf")));
  EXPECT_EQ(reader.fingerprint(), GgufReader(dir.file("copy.gguf")).fingerprint());
}

INSTANTIATE_TEST_SUITE_P(SharedData, GgufRealFileTest,
                         testing::Values("models/classics-9m-relu-f16.gguf",
                                         "models/stories260k-f32.gguf",
                                         "tokenizers/ggml-vocab-gpt-2.gguf",
                                         "tokenizers/ggml-vocab-llama-spm.gguf"));

TEST(GgufRealFile, ReluModel) {
  const std::string path = kData + "models/classics-9m-relu-f16.gguf";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not there";
  const GgufReader reader(path);
  EXPECT_EQ(reader.RequireString("general.architecture"), "llama");
  EXPECT_EQ(reader.RequireU64("llama.block_count", 1, 1000), 8U);
  EXPECT_EQ(reader.GetStrings("tokenizer.ggml.tokens")->size(), 4096U);
  EXPECT_EQ(reader.RequireMatrix("token_embd.weight", 4096, 256).dtype, DType::kF16);
  EXPECT_EQ(reader.RequireMatrix("blk.7.ffn_down.weight", 256, 1024).dtype, DType::kF16);
}

}  // namespace
}  // namespace thermocline
