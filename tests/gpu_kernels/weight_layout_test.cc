#include "gpu_kernels/products/weight_layout.h"

#include <cstring>

#include "tests/gpu_kernels/gpu_matrix.h"

namespace thermocline {
namespace {

// Weight i of a packed row of Q6_K.
double DecodePackedQ6K(const std::byte* row, int64_t cols, int64_t i) {
  const auto byte = [row](int64_t at) { return std::to_integer<int>(row[at]); };
  const int low = byte(i / 32 * 16 + i % 16) >> (i % 32 < 16 ? 0 : 4) & 15;
  const int high = byte(cols / 2 + i / 16 * 4 + i % 4) >> (i % 16 / 4 * 2) & 3;
  const int bits = high << 4 | low;
  const double scale = 1.0 * std::to_integer<int8_t>(row[cols / 2 + cols / 4 + i / 16]);
  uint16_t d = 0;
  std::memcpy(&d, row + cols / 2 + cols / 4 + cols / 16 + i / 256 * 2, 2);
  return testing::DecodeHalf(d) * scale * (bits < 32 ? bits : bits - 64);
}

// What a packed row says, decoded from the description in the header.
std::vector<double> DecodePacked(DType dtype, const std::byte* row, int64_t cols) {
  if (!testing::IsQuantised(dtype)) return testing::DecodeRow(dtype, row, cols);
  const int64_t weight_bytes = dtype == DType::kQ8_0 ? cols : cols / 2;
  std::vector<double> values;
  for (int64_t i = 0; i < cols; ++i) {
    if (dtype == DType::kQ6_K) {
      values.push_back(DecodePackedQ6K(row, cols, i));
      continue;
    }
    if (dtype == DType::kQ4_1) {
      uint16_t factors[2] = {};
      std::memcpy(factors, row + weight_bytes + i / 32 * 4, 4);
      const int byte = std::to_integer<int>(row[i / 32 * 16 + i % 16]);
      const int nibble = i % 32 < 16 ? byte & 15 : byte >> 4;
      values.push_back(testing::DecodeHalf(factors[0]) * nibble + testing::DecodeHalf(factors[1]));
      continue;
    }
    uint16_t scale = 0;
    std::memcpy(&scale, row + weight_bytes + i / 32 * 2, 2);
    double weight = 0;
    if (dtype == DType::kQ8_0) {
      weight = 1.0 * std::to_integer<int8_t>(row[i]);
    } else {
      const int byte = std::to_integer<int>(row[i / 32 * 16 + i % 16]);
      const int nibble = i % 32 < 16 ? byte & 15 : byte >> 4;
      weight = nibble < 8 ? nibble : nibble - 16;
    }
    values.push_back(testing::DecodeHalf(scale) * weight);
  }
  return values;
}

TEST(GpuWeightLayoutTest, PackedRowsHoldTheSameWeights) {
  for (const DType dtype : kWeightDTypes) {
    for (const int64_t cols : MatrixCols(dtype)) {
      const TestMatrix matrix(dtype, 3, cols, 1);
      const std::vector<std::byte> packed = matrix.Packed();
      for (int64_t r = 0; r < matrix.rows(); ++r) {
        EXPECT_EQ(DecodePacked(dtype, packed.data() + r * GpuRowBytes(dtype, cols), cols),
                  matrix.row(r))
            << DTypeName(dtype) << ", row " << r << " of " << cols << " columns";
      }
    }
  }
}

TEST(GpuWeightLayoutTest, RowsAreAlignedAndPaddedWithZeros) {
  for (const DType dtype : kWeightDTypes) {
    const DTypeInfo& info = GetDTypeInfo(dtype);
    for (const int64_t cols : MatrixCols(dtype)) {
      const int64_t row_bytes = GpuRowBytes(dtype, cols);
      EXPECT_EQ(row_bytes % 16, 0);
      EXPECT_EQ(GpuPaddedCols(cols) % 32, 0);
      EXPECT_GE(row_bytes, RowBytes(dtype, GpuPaddedCols(cols)));
      EXPECT_LT(row_bytes, RowBytes(dtype, GpuPaddedCols(cols)) + 16);
      const std::vector<std::byte> packed = TestMatrix(dtype, 2, cols, 2).Packed();
      const int64_t used = cols / info.block_elems * info.block_bytes;
      for (int64_t i = used; i < row_bytes; ++i) {
        EXPECT_EQ(packed[static_cast<size_t>(i)], std::byte{0}) << DTypeName(dtype) << " " << cols;
      }
    }
  }
}

TEST(GpuWeightLayoutTest, RowsAsWideAsModelsGrowByNothing) {
  for (const DType dtype : kWeightDTypes) {
    for (const int64_t cols : {2048, 4096, 11008}) {
      if (dtype == DType::kQ6_K && cols == 11008) continue;  // 43 blocks of 210 bytes
      EXPECT_EQ(GpuRowBytes(dtype, cols), RowBytes(dtype, cols)) << DTypeName(dtype);
    }
  }
}

}  // namespace
}  // namespace thermocline
