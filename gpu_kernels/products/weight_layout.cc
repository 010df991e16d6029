#include "gpu_kernels/products/weight_layout.h"

#include <array>
#include <cstring>

#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"
#include "runtime/core/q6_k_block.h"

namespace thermocline {
namespace {

constexpr int64_t kRowAlignment = 16;
constexpr int64_t kScaleBytes = 2;

// Bytes of a row in front of the f16 scales of its blocks.
int64_t WeightBytes(DType dtype, int64_t cols) {
  const DTypeInfo& info = GetDTypeInfo(dtype);
  const int64_t scale_bytes = info.block_elems > 1 ? kScaleBytes : 0;
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

// The 32 weights of a chunk of a block, as the file has them, -32 being 0.
std::array<unsigned, kQuantBlock> ChunkOf(const std::byte* block, int64_t chunk) {
  std::array<unsigned, kQuantBlock> quants = {};
  for (int64_t i = 0; i < kQuantBlock; ++i) {
    const auto low = std::to_integer<unsigned>(block[q6_k::LowAt(chunk) + i]);
    const auto high = std::to_integer<unsigned>(block[q6_k::HighAt(chunk) + i]);
    quants[static_cast<size_t>(i)] =
        (low >> q6_k::LowShift(chunk) & 15U) | (high >> q6_k::HighShift(chunk) & 3U) << 4U;
  }
  return quants;
}

// Parts a row of blocks of Q6_K into its planes.
void SplitSuperBlocks(const std::byte* row, int64_t cols, std::byte* low) {
  constexpr unsigned kFlipSign = 32;
  constexpr int64_t kScalesPerBlock = kSuperBlock / q6_k::kScaled;
  std::byte* high = low + cols / 2;
  std::byte* const scales = high + cols / 4;
  std::byte* const ds = scales + cols / q6_k::kScaled;
  for (int64_t b = 0; b < cols / kSuperBlock; ++b) {
    const std::byte* const block = row + b * q6_k::kBytes;
    for (int64_t c = 0; c < q6_k::kChunks; ++c) {
      const std::array<unsigned, kQuantBlock> quants = ChunkOf(block, c);
      for (size_t i = 0; i < kQuantBlock; ++i) {
        const unsigned quant = quants[i] ^ kFlipSign;
        low[i % 16] |= static_cast<std::byte>((quant & 15U) << (i < 16 ? 0 : 4));
        high[i / 16 * 4 + i % 4] |= static_cast<std::byte>(quant >> 4U << (i % 16 / 4 * 2));
      }
      low += kQuantBlock / 2;
      high += kQuantBlock / 4;
    }
    std::memcpy(scales + b * kScalesPerBlock, block + q6_k::kScalesAt, kScalesPerBlock);
    std::memcpy(ds + b * kScaleBytes, block + q6_k::kDAt, kScaleBytes);
  }
}

}  // namespace

int64_t GpuPaddedCols(int64_t cols) { return AlignUp(cols, kQuantBlock); }

int64_t GpuRowBytes(DType dtype, int64_t cols) {
  CHECK(GetDTypeInfo(dtype).computable && cols % GetDTypeInfo(dtype).block_elems == 0);
  return AlignUp(RowBytes(dtype, GpuPaddedCols(cols)), kRowAlignment);
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
    if (dtype == DType::kQ6_K) {
      SplitSuperBlocks(row, cols, packed);
    } else if (GetDTypeInfo(dtype).block_elems > 1) {
      SplitBlocks(row, cols / kQuantBlock, GetDTypeInfo(dtype).block_bytes, flip, packed,
                  packed + weight_bytes);
    } else {
      std::memcpy(packed, row, file_bytes);
    }
  }
}

}  // namespace thermocline
