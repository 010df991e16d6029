// Compares what is decoded of every quantised type with the public gguf package (make_blocks.py).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "runtime/core/weight_chunk.h"
#include "runtime/gguf/gguf_reader.h"
#include "tests/cpu_kernels/kernel_reference.h"

namespace thermocline::testing {
namespace {

constexpr int64_t kBlocksRows = 3;
constexpr int64_t kBlocksCols = 512;

GgufReader BlocksFile() {
  return GgufReader(std::string(THERMOCLINE_SOURCE_DIR) + "/tests/cpu_kernels/blocks.gguf");
}

TensorView BlocksOf(const GgufReader& gguf, const char* what, DType dtype) {
  return gguf.RequireMatrix(std::string(what) + "." + std::string(DTypeName(dtype)), kBlocksRows,
                            kBlocksCols);
}

std::vector<float> ValuesOf(const GgufReader& gguf, DType dtype, int64_t row) {
  const TensorView values = BlocksOf(gguf, "values", dtype);
  CHECK(values.dtype == DType::kF32);
  std::vector<float> out(kBlocksCols);
  std::memcpy(out.data(), values.row(row), kBlocksCols * sizeof(float));
  return out;
}

// Calls test(dtype, a row's blocks, its values) for every row of every quantised type.
template <typename Test>
void ForBlocks(const Test& test) {
  const GgufReader gguf = BlocksFile();
  for (const DType dtype : kWeightDTypes) {
    // The public package does not know types of ours.
    if (!IsQuantised(dtype) || dtype == DType::kS2_0 || dtype == DType::kS3_0) continue;
    const TensorView blocks = BlocksOf(gguf, "blocks", dtype);
    ASSERT_EQ(blocks.dtype, dtype);
    for (int64_t r = 0; r < kBlocksRows; ++r) {
      SCOPED_TRACE(::testing::Message() << DTypeName(dtype) << ", row " << r);
      test(dtype, blocks.row(r), ValuesOf(gguf, dtype, r));
    }
  }
}

// Zeros are the same with either sign.
TEST(BlocksTest, ChunksAreThePublicPackagesValues) {
  ForBlocks([](DType dtype, const std::byte* row, const std::vector<float>& expected) {
    std::vector<float> out;
    for (int64_t c = 0; c < kBlocksCols / kQuantBlock; ++c) {
      WeightChunk chunk;
      ReadWeightChunk(dtype, row, c, &chunk);
      for (int i = 0; i < kQuantBlock; ++i) {
        const float product = chunk.scales[i / kChunkScaled] * chunk.quants[i];
        out.push_back(product + chunk.offsets[i / kChunkScaled]);
      }
    }
    EXPECT_EQ(out, expected);
  });
}

// The reference that other tests of kernels compare with. Its values are not rounded.
TEST(BlocksTest, TheReferenceIsThePublicPackagesValues) {
  ForBlocks([](DType dtype, const std::byte* row, const std::vector<float>& expected) {
    const std::vector<double> exact = DecodeRow(dtype, row, kBlocksCols);
    EXPECT_EQ(std::vector<float>(exact.begin(), exact.end()), expected);
  });
}

class BlocksTableTest : public ::testing::TestWithParam<const KernelTable*> {};

TEST_P(BlocksTableTest, DecodesAsThePublicPackageDoes) {
  ForBlocks([](DType dtype, const std::byte* row, const std::vector<float>& expected) {
    std::vector<float> out(kBlocksCols);
    GetParam()->dequantize_f32(dtype, row, 0, kBlocksCols, out.data());
    EXPECT_EQ(out, expected);
    for (int64_t begin = 0; begin < kBlocksCols; begin += 96) {
      const int64_t end = std::min(begin + 96, kBlocksCols);
      std::vector<float> part(static_cast<size_t>(end - begin));
      GetParam()->dequantize_f32(dtype, row, begin, end, part.data());
      EXPECT_EQ(part, std::vector<float>(expected.begin() + begin, expected.begin() + end))
          << "from " << begin;
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Tables, BlocksTableTest,
                         ::testing::ValuesIn(AvailableCpuKernels().begin(),
                                             AvailableCpuKernels().end()),
                         [](const auto& test) { return TableName(*test.param); });

}  // namespace
}  // namespace thermocline::testing
