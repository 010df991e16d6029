#include "gpu_kernels/weight_layout.h"

#include <cstring>

#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr int64_t kRowAlignment = 16;
constexpr int64_t kScaleBytes = 2;

bool HasScales(DType dtype) { return dtype == DType::kQ8_0 || dtype == DType::kQ4_0; }

// Bytes of a row in front of its scales.
int64_t WeightBytes(DType dtype, int64_t cols) {
  const DTypeInfo& info = GetDTypeInfo(dtype);
  const int64_t scale_bytes = HasScales(dtype) ? kScaleBytes : 0;
  return GpuPaddedCols(cols) / info.block_elems * (info.block_bytes - scale_bytes);
}

// Parts a row of blocks, each an f16 scale and its weights, into weights and scales.
void SplitBlocks(const std::byte* row, int64_t n_blocks, int64_t block_bytes, std::byte flip,
                 std::byte* weights, std::byte* scales) {
  const int64_t weight_bytes = block_bytes - kScaleBytes;
  for (int64_t b = 0; b < n_blocks; ++b) {
    const std::byte* const block = row + b * block_bytes;
    std::memcpy(scales + b * kScaleBytes, block, kScaleBytes);
    for (int64_t i = 0; i < weight_bytes; ++i) {
      weights[b * weight_bytes + i] = block[kScaleBytes + i] ^ flip;
    }
  }
}

}  // namespace

int64_t GpuPaddedCols(int64_t cols) { return AlignUp(cols, kQuantBlock); }

int64_t GpuRowBytes(DType dtype, int64_t cols) {
  CHECK(GetDTypeInfo(dtype).computable && cols % GetDTypeInfo(dtype).block_elems == 0);
  const int64_t n_blocks = GpuPaddedCols(cols) / kQuantBlock;
  const int64_t scales = HasScales(dtype) ? n_blocks * kScaleBytes : 0;
  return AlignUp(WeightBytes(dtype, cols) + scales, kRowAlignment);
}

GpuMatrix MakeGpuMatrix(const void* data, DType dtype, int64_t rows, int64_t cols) {
  return {dtype, rows, cols, GpuRowBytes(dtype, cols), static_cast<const std::byte*>(data)};
}

void PackGpuRows(DType dtype, const std::byte* rows, int64_t row_stride_bytes, int64_t n_rows,
                 int64_t cols, std::byte* out) {
  const int64_t row_bytes = GpuRowBytes(dtype, cols);
  const int64_t weight_bytes = WeightBytes(dtype, cols);
  const auto file_bytes = static_cast<size_t>(RowBytes(dtype, cols));
  constexpr std::byte kFlipSigns{0x88};
  const std::byte flip = dtype == DType::kQ4_0 ? kFlipSigns : std::byte{0};
  for (int64_t r = 0; r < n_rows; ++r) {
    const std::byte* const row = rows + r * row_stride_bytes;
    std::byte* const packed = out + r * row_bytes;
    std::memset(packed, 0, static_cast<size_t>(row_bytes));
    if (HasScales(dtype)) {
      SplitBlocks(row, cols / kQuantBlock, GetDTypeInfo(dtype).block_bytes, flip, packed,
                  packed + weight_bytes);
    } else {
      std::memcpy(packed, row, file_bytes);
    }
  }
}

}  // namespace thermocline
