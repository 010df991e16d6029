#include "gpu_kernels/products/weight_layout.h"

#include <cmath>

#include "runtime/core/checked_math.h"
#include "runtime/core/quant_values.h"
#include "tests/gpu_kernels/gpu_matrix.h"

namespace thermocline {
namespace {

// A packed row, read as the header describes it.
class PackedRow {
 public:
  PackedRow(DType dtype, const std::byte* row, int64_t cols) : dtype_(dtype), row_(row), p_(cols) {}

  // Weight i.
  double Weight(int64_t i) const {
    const int64_t of_32 = i / 32;
    const int64_t of_256 = i / 256;
    switch (dtype_) {
      case DType::kQ8_0:
        return Half(p_ + of_32 * 2) * Signed(i);
      case DType::kQ4_0:
      case DType::kS2_0:
      case DType::kS3_0:
        return Half(p_ / 2 + of_32 * 2) * Wrapped(Nibble(i), 4);
      case DType::kQ4_1:
        return Half(p_ / 2 + of_32 * 4) * Nibble(i) + Half(p_ / 2 + of_32 * 4 + 2);
      case DType::kQ5_0:
        return Half(p_ / 8 * 5 + of_32 * 2) * Wrapped(Nibble(i) | Bit(p_ / 2, i) << 4, 5);
      case DType::kQ5_1:
        return Half(p_ / 8 * 5 + of_32 * 4) * (Nibble(i) | Bit(p_ / 2, i) << 4) +
               Half(p_ / 8 * 5 + of_32 * 4 + 2);
      case DType::kQ2_K: {
        const int factors = Byte(p_ / 4 + i / 16);
        const int64_t d = p_ / 16 * 5 + of_256 * 4;
        return Half(d) * (factors & 15) * Pair(0, i) - Half(d + 2) * (factors >> 4);
      }
      case DType::kQ3_K: {
        const int scale = SixBits(p_ / 8 * 3, of_32, i % 32 / 16) - 32;
        const double d = Half(p_ / 64 * 27 + of_256 * 2);
        return d * scale * Wrapped(Pair(0, i) | Bit(p_ / 4, i) << 2, 3);
      }
      case DType::kQ4_K:
        return SixBitsTimes(p_ / 2, i, Nibble(i));
      case DType::kQ5_K:
        return SixBitsTimes(p_ / 8 * 5, i, Nibble(i) | Bit(p_ / 2, i) << 4);
      case DType::kQ6_K:
        return Half(p_ / 16 * 13 + of_256 * 2) * Signed(p_ / 4 * 3 + i / 16) *
               Wrapped(Nibble(i) | Pair(p_ / 2, i) << 4, 6);
      case DType::kIQ4_NL:
        return Half(p_ / 2 + of_32 * 2) * kUnevenNibbles[NibbleInOrder(0, i)];
      case DType::kIQ4_XS: {
        const int64_t block = p_ / 2 + of_256 * 8;
        const int64_t c = of_32 % 8;
        const int low = Byte(block + 4 + c / 2) >> (c % 2 * 4) & 15;
        const int high = Byte(block + 2 + c / 4) >> (c % 4 * 2) & 3;
        return Half(block) * ((high << 4 | low) - 32) * kUnevenNibbles[NibbleInOrder(0, i)];
      }
      case DType::kMXFP4:
        return std::ldexp(kFloatNibbles[NibbleInOrder(0, i)], Byte(p_ / 2 + of_32) - 128);
      default: {
        const int scale = 2 * (Byte(16 + p_ / 2 + of_32) >> (i % 32 / 16 * 4) & 15) + 1;
        const double d = Half(16 + p_ / 2 + p_ / 32 + of_256 * 2);
        return d * scale / 8 * Signed(NibbleInOrder(16, i));
      }
    }
  }

 private:
  int Byte(int64_t at) const { return std::to_integer<int>(row_[at]); }
  int Signed(int64_t at) const { return std::to_integer<int8_t>(row_[at]); }
  double Half(int64_t at) const {
    return testing::DecodeHalf(static_cast<uint16_t>(Byte(at) | Byte(at + 1) << 8));
  }
  static int Wrapped(int bits, int n) { return bits < 1 << (n - 1) ? bits : bits - (1 << n); }
  int Nibble(int64_t i) const { return Byte(i / 32 * 16 + i % 16) >> (i % 32 < 16 ? 0 : 4) & 15; }
  int NibbleInOrder(int64_t plane, int64_t i) const {
    return Byte(plane + i / 2) >> (i % 2 * 4) & 15;
  }
  int Pair(int64_t plane, int64_t i) const {
    return Byte(plane + i / 16 * 4 + i % 4) >> (i % 16 / 4 * 2) & 3;
  }
  int Bit(int64_t plane, int64_t i) const {
    return Byte(plane + i / 32 * 4 + i % 4) >> (i % 32 / 4) & 1;
  }
  // The first (0) or second number of 32 weights.
  int SixBits(int64_t plane, int64_t of_32, int64_t which) const {
    const int low = Byte(plane + of_32);
    const int high = Byte(plane + p_ / 32 + of_32 / 2) >> (of_32 % 2 * 4) & 15;
    return which == 0 ? low & 63 : low >> 6 | high << 2;
  }
  double SixBitsTimes(int64_t plane, int64_t i, int quant) const {
    const int64_t d = plane + p_ / 64 * 3 + i / 256 * 4;
    return Half(d) * SixBits(plane, i / 32, 0) * quant - Half(d + 2) * SixBits(plane, i / 32, 1);
  }

  DType dtype_;
  const std::byte* row_;
  int64_t p_;
};

std::vector<double> DecodePacked(DType dtype, const std::byte* row, int64_t cols) {
  if (!testing::IsQuantised(dtype)) return testing::DecodeRow(dtype, row, cols);
  const PackedRow packed(dtype, row, cols);
  std::vector<double> values;
  for (int64_t i = 0; i < cols; ++i) values.push_back(packed.Weight(i));
  return values;
}

bool HasOwnBytes(DType dtype) { return GpuDType(dtype) != kGpuGridType; }

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
    for (const int64_t cols : MatrixCols(dtype)) {
      const int64_t row_bytes = GpuRowBytes(dtype, cols);
      EXPECT_EQ(row_bytes % 16, 0);
      EXPECT_EQ(GpuPaddedCols(cols) % 32, 0);
      const int64_t exact = HasOwnBytes(dtype) ? RowBytes(GpuDType(dtype), GpuPaddedCols(cols))
                                               : 16 + cols / 256 * 138;
      EXPECT_GE(row_bytes, exact);
      EXPECT_LT(row_bytes, exact + 16);
      const std::vector<std::byte> packed = TestMatrix(dtype, 2, cols, 2).Packed();
      const int64_t used = HasOwnBytes(dtype) ? RowBytes(GpuDType(dtype), cols) : exact;
      for (int64_t i = used; i < row_bytes; ++i) {
        EXPECT_EQ(packed[static_cast<size_t>(i)], std::byte{0}) << DTypeName(dtype) << " " << cols;
      }
    }
  }
}

TEST(GpuWeightLayoutTest, RowsAsWideAsModelsGrowByNothing) {
  for (const DType dtype : kWeightDTypes) {
    for (const int64_t cols : {2048, 4096, 11008}) {
      if (!HasOwnBytes(dtype) || GpuDType(dtype) != dtype) continue;
      if (cols % GetDTypeInfo(dtype).block_elems != 0) continue;
      // 11008 columns are 43 blocks of 256.
      const int64_t row_bytes = RowBytes(dtype, cols);
      EXPECT_EQ(GpuRowBytes(dtype, cols), cols == 11008 ? AlignUp(row_bytes, 16) : row_bytes)
          << DTypeName(dtype);
    }
  }
}

}  // namespace
}  // namespace thermocline
