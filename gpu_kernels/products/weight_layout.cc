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

// Splits a row of blocks, each an f16 scale (kScales: and what else is f16) and its weights, into
// weights and scales.
template <DType kType, int kScales = 1>
void SplitBlocks(const std::byte* row, int64_t cols, std::byte flip, std::byte* weights) {
  constexpr int64_t kScalesBytes = kScales * kScaleBytes;
  constexpr int64_t kWeightBytes = kTypeBlockBytes<kType> - kScalesBytes;
  const int64_t n_blocks = cols / kTypeBlockElems<kType>;
  std::byte* const scales = weights + n_blocks * kWeightBytes;
  for (int64_t b = 0; b < n_blocks; ++b) {
    const std::byte* const block = row + b * kTypeBlockBytes<kType>;
    std::memcpy(scales + b * kScalesBytes, block, kScalesBytes);
    for (int64_t i = 0; i < kWeightBytes; ++i) {
      weights[b * kWeightBytes + i] = block[kScalesBytes + i] ^ flip;
    }
  }
}

// Returns the 32 weights of a chunk of a block, as the file has them, with -32 as 0.
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

// Splits a row of blocks of Q6_K into its planes.
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

// Packs a row into memory that holds zeros.
template <DType kType>
void PackRow(const std::byte* row, int64_t cols, std::byte* packed) {
  constexpr std::byte kFlipSigns{0x88};
  if constexpr (!kIsQuantised<kType>) {
    std::memcpy(packed, row, static_cast<size_t>(RowBytes(kType, cols)));
  } else if constexpr (kType == DType::kQ8_0) {
    SplitBlocks<kType>(row, cols, std::byte{0}, packed);
  } else if constexpr (kType == DType::kQ6_K) {
    SplitSuperBlocks(row, cols, packed);
  } else if constexpr (kType == DType::kQ4_0) {
    SplitBlocks<kType>(row, cols, kFlipSigns, packed);
  } else if constexpr (kType == DType::kQ4_1) {
    SplitBlocks<kType, 2>(row, cols, std::byte{0}, packed);
  } else {
    static_assert(kHandlesType<kType>, "say how rows of the type lie on the GPU");
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
  VisitWeightType(dtype, [&](auto type) {
    for (int64_t r = 0; r < n_rows; ++r) {
      std::byte* const packed = out + r * row_bytes;
      std::memset(packed, 0, static_cast<size_t>(row_bytes));
      PackRow<type()>(rows + r * row_stride_bytes, cols, packed);
    }
  });
}

}  // namespace thermocline
