#include "gpu_kernels/tokens/embedding.h"

#include <cmath>

#include "tests/gpu_kernels/gpu_matrix.h"
#include "tests/gpu_kernels/kv_reference.h"
#include "tests/gpu_kernels/pass_fixture.h"
#include "tests/gpu_kernels/random_values.h"

namespace thermocline {
namespace {

constexpr int64_t kRows = 9;

struct Table {
  Table(DType dtype, int64_t n_columns)
      : matrix(dtype, kRows, n_columns, 5), width(static_cast<size_t>(n_columns)) {}

  TestMatrix matrix;
  size_t width;
};

class GpuEmbedTest : public GpuTest {
 protected:
  static TestSegment Segment(const std::vector<int32_t>& ids) {
    return {0, static_cast<int64_t>(ids.size()), {0}, ids};
  }
  static void ExpectRows(const Table& table, const std::vector<int32_t>& ids,
                         const std::vector<float>& x) {
    for (size_t t = 0; t < ids.size(); ++t) {
      const std::vector<double>& row = table.matrix.row(ids[t]);
      for (size_t i = 0; i < table.width; ++i) {
        ASSERT_EQ(x[t * table.width + i], static_cast<float>(row[i]))
            << DTypeName(table.matrix.dtype()) << ", token " << t << ", element " << i;
      }
    }
  }
};

TEST_F(GpuEmbedTest, DecodesEveryTypeExactly) {
  const std::vector<int32_t> ids = {3, 0, kRows - 1, 3};
  for (const DType dtype : kWeightDTypes) {
    for (const int64_t blocks : {1, 3, 9}) {
      const bool odd = !testing::IsQuantised(dtype);
      Table table(dtype, blocks * (odd ? 31 : GetDTypeInfo(dtype).block_elems));
      InEveryOrderIf(blocks == 3, [&] {
        Stream stream;
        table.matrix.Upload(stream);
        const OnDevice<float> x(stream, std::vector<float>(ids.size() * table.width));
        const TestPass pass(stream, {Segment(ids)});
        GpuEmbed(stream, table.matrix.gpu(), pass.get(), x.data());
        ExpectRows(table, ids, x.Read());
      });
    }
  }
}

// Rows of two sequences get what the table has for their positions, counted from row 2 on.
TEST_F(GpuEmbedTest, PositionsAreAdded) {
  const std::vector<TestSegment> segments = {{3, 3, {0}, {}}, {0, 1, {1}, {}}};
  constexpr int64_t kRowsTaken[] = {5, 6, 7, 2};
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kQ8_0, DType::kQ4_1}) {
    Table table(dtype, 96);
    Stream stream;
    table.matrix.Upload(stream);
    const std::vector<float> x = RandomValues(4 * 96, 1);
    const OnDevice<float> x_device(stream, x);
    const TestPass pass(stream, segments);
    GpuAddPositions(stream, table.matrix.gpu(), pass.get(), 2, x_device.data());
    const std::vector<float> sum = x_device.Read();
    for (size_t i = 0; i < x.size(); ++i) {
      const double weight = table.matrix.row(kRowsTaken[i / 96])[i % 96];
      // Rounded once or, with the weight, twice.
      ASSERT_NEAR(sum[i], x[i] + weight,
                  0x1p-24 * (std::abs(x[i] + weight) + std::abs(weight)) + 1e-30)
          << DTypeName(dtype) << ", element " << i;
    }
  }
}

TEST_F(GpuEmbedTest, ScaledRowsAreAdded) {
  const std::vector<int32_t> ids = {3, 0, kRows - 1};
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kQ8_0, DType::kQ4_1}) {
    Table table(dtype, 96);
    Stream stream;
    table.matrix.Upload(stream);
    const std::vector<float> x = RandomValues(ids.size() * 96, 1);
    const OnDevice<float> x_device(stream, x);
    const TestPass pass(stream, {Segment(ids)});
    GpuAddTableRows(stream, table.matrix.gpu(), pass.get(), 3.5F, x_device.data());
    const std::vector<float> sum = x_device.Read();
    for (size_t i = 0; i < x.size(); ++i) {
      const double added = 3.5 * table.matrix.row(ids[i / 96])[i % 96];
      ASSERT_NEAR(sum[i], x[i] + added,
                  0x1p-24 * (std::abs(x[i] + added) + 2 * std::abs(added)) + 1e-30)
          << DTypeName(dtype) << ", element " << i;
    }
  }
}

// What a graph does is said by the inputs that its first node copies.
TEST_F(GpuEmbedTest, AReplayedGraphTakesItsTokensFromTheInputs) {
  Table table(DType::kQ8_0, 64);
  Stream stream;
  table.matrix.Upload(stream);
  const OnDevice<float> x(stream, std::vector<float>(4 * 64, -7.0F));
  TestPass pass(stream, {Segment({0, 0, 0})});
  GraphCapture capture(stream);
  pass.inputs().SendRows(stream);
  GpuEmbed(stream, table.matrix.gpu(), pass.get(), x.data());
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
