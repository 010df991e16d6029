#include "gpu_kernels/tokens/embedding.h"

#include <cstring>
#include <random>

#include "runtime/core/half.h"
#include "tests/gpu_kernels/kv_reference.h"
#include "tests/gpu_kernels/pass_fixture.h"
#include "tests/support/weight_reference.h"

namespace thermocline {
namespace {

constexpr int64_t kRows = 9;

// Random bytes, but for scales and floats, which are numbers.
struct Table {
  Table(DType type, int64_t n_columns, int64_t padding_bytes)
      : dtype(type), width(n_columns), stride(RowBytes(type, n_columns) + padding_bytes) {
    std::mt19937 generator(5);
    std::uniform_real_distribution<float> uniform(-1, 1);
    bytes.resize(static_cast<size_t>(kRows * stride));
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(generator());
    const DTypeInfo& info = GetDTypeInfo(type);
    for (int64_t row = 0; row < kRows; ++row) {
      for (int64_t block = 0; block < width / info.block_elems; ++block) {
        uint8_t* const at = &bytes[static_cast<size_t>(row * stride + block * info.block_bytes)] +
                            (dtype == DType::kQ6_K ? 208 : 0);
        const float value = uniform(generator);
        const uint16_t half = dtype == DType::kBF16 ? F32ToBf16(value) : F32ToF16(value);
        dtype == DType::kF32 ? std::memcpy(at, &value, 4) : std::memcpy(at, &half, 2);
        const uint16_t offset = F32ToF16(uniform(generator));
        if (dtype == DType::kQ4_1) std::memcpy(at + 2, &offset, 2);
      }
    }
  }
  std::vector<double> Decode(int64_t row) const {
    return testing::DecodeRow(dtype, reinterpret_cast<const std::byte*>(&bytes[0]) + row * stride,
                              width);
  }
  DType dtype;
  int64_t width;
  int64_t stride;
  std::vector<uint8_t> bytes;
};

class GpuEmbedTest : public GpuTest {
 protected:
  static TestSegment Segment(const std::vector<int32_t>& ids) {
    return {0, static_cast<int64_t>(ids.size()), {0}, ids};
  }
  static void ExpectRows(const Table& table, const std::vector<int32_t>& ids,
                         const std::vector<float>& x) {
    const auto width = static_cast<size_t>(table.width);
    for (size_t t = 0; t < ids.size(); ++t) {
      const std::vector<double> row = table.Decode(ids[t]);
      for (size_t i = 0; i < width; ++i) {
        ASSERT_EQ(x[t * width + i], static_cast<float>(row[i]))
            << DTypeName(table.dtype) << ", token " << t << ", element " << i;
      }
    }
  }
};

TEST_F(GpuEmbedTest, DecodesEveryTypeExactly) {
  const std::vector<int32_t> ids = {3, 0, kRows - 1, 3};
  for (const DType dtype : kWeightDTypes) {
    for (const int64_t blocks : {1, 3, 9}) {
      const bool odd = !testing::IsQuantised(dtype);
      const Table table(dtype, blocks * (odd ? 31 : GetDTypeInfo(dtype).block_elems), 4);
      InEveryOrder([&] {
        Stream stream;
        const OnDevice<uint8_t> bytes(stream, table.bytes);
        const OnDevice<float> x(stream, std::vector<float>(ids.size() * table.width));
        const TestPass pass(stream, {Segment(ids)});
        GpuEmbed(stream, {dtype, bytes.data(), table.stride}, pass.get(), table.width, x.data());
        ExpectRows(table, ids, x.Read());
      });
    }
  }
}

// What a graph does is said by the inputs that its first node copies.
TEST_F(GpuEmbedTest, AReplayedGraphTakesItsTokensFromTheInputs) {
  const Table table(DType::kQ8_0, 64, 0);
  Stream stream;
  const OnDevice<uint8_t> bytes(stream, table.bytes);
  const OnDevice<float> x(stream, std::vector<float>(4 * 64, -7.0F));
  TestPass pass(stream, {Segment({0, 0, 0})});
  GraphCapture capture(stream);
  pass.inputs().SendRows(stream);
  GpuEmbed(stream, {DType::kQ8_0, bytes.data(), table.stride}, pass.get(), 64, x.data());
  Graph graph = capture.Finish();
  for (const std::vector<int32_t>& ids : {std::vector<int32_t>{8, 0, 5}, {1, 2, 3}}) {
    pass.Set({Segment(ids)});
    graph.Launch(stream);
    const std::vector<float> rows = x.Read();
    ExpectRows(table, ids, rows);
    EXPECT_EQ(rows[ids.size() * 64], -7.0F) << "behind the last token";
  }
}

TEST_F(GpuEmbedTest, OnlyAnotherPageTableIsSent) {
  Stream stream;
  TestPass pass(stream, {{0, 1, {4, 7, 9}, {}}});
  EXPECT_EQ(pass.inputs().SendPages(stream), 0U) << "it lies there";
  pass.Set({{32, 1, {4, 7}, {}}});
  EXPECT_EQ(pass.inputs().SendPages(stream), 0U) << "its beginning lies there";
  stream.Synchronize();
  pass.Set({{32, 1, {4, 8}, {}}});
  EXPECT_EQ(pass.inputs().SendPages(stream), 2 * sizeof(int32_t));
  stream.Synchronize();
  EXPECT_EQ(ReadFrom<int32_t>(stream, pass.get().pages, 2), (std::vector<int32_t>{4, 8}));
}

}  // namespace
}  // namespace thermocline
