// How matrices of weights lie in the GPU's memory.
//
// The values are those of the file's blocks (runtime/core/dtype.h, runtime/core/weight_chunk.cc),
// row by row, but every row starts at a multiple of 16 bytes and is read from its start in loads of
// 16 bytes (8 where weights have 2 bits in the first plane). A row is planes one after another.
// With cols padded to a multiple of 32, p columns:
//
//   type        bits    planes
//   F32, F16, BF16      p elements
//   Q8_0        8.5     p signed bytes; f16 scales of 32 weights each
//   Q4_0        4.5     nibbles, two's complement (-8 to 7); f16 scales of 32
//   Q4_1        5       nibbles; pairs of an f16 scale and an f16 offset, of 32
//   Q5_0        5.5     nibbles, fifth bits, together two's complement (-16 to 15); f16 scales of
//   32 Q5_1        6       nibbles, fifth bits; pairs as of Q4_1 Q2_K        2.625   bit pairs;
//   bytes of 16 weights each, a scale's nibble and above it an
//                       offset's; f16 d and dmin of 256
//   Q3_K        3.4375  bit pairs, third bits, together two's complement (-4 to 3); six-bit numbers
//                       of 32: scales of 16, plus 32; f16 d of 256
//   Q4_K        4.5     nibbles; six-bit numbers of 32: scale, offset; f16 d and dmin of 256
//   Q5_K        5.5     nibbles, fifth bits; the rest as of Q4_K
//   Q6_K        6.5625  nibbles, pairs of high bits, together two's complement (-32 to 31); signed
//                       bytes, scales of 16; f16 d of 256
//   IQ4_NL      4.5     nibbles in order; f16 scales of 32
//   IQ4_XS      4.25    nibbles in order; the first 8 bytes of the file's blocks, of 256: d and the
//                       scales' bits
//   MXFP4       4.25    nibbles in order; the file's exponents of 32
//   others      4.3125  16 signed bytes; nibbles in order, which name one of those; bytes of 32
//                       weights, two nibbles s of 16 each; f16 d of 256. A weight is
//                       d (2 s + 1) / 8 times its byte. (128 bits more per row.)
//
//   nibbles             p / 2 bytes: of each 32 weights, byte i holds weight i and above it 16 + i
//   nibbles in order    p / 2 bytes: byte i holds weight 2 i and above it 2 i + 1
//   bit pairs           p / 4 bytes: of each 16 weights, byte i holds weights i, 4 + i, 8 + i and
//                       12 + i, from bit 0 on
//   third, fifth bits   p / 8 bytes: of each 32 weights, bit b of byte i is weight 4 b + i's
//   six-bit numbers     p / 32 bytes and p / 64 bytes: a byte holds the first number and above it
//                       two low bits of the second, of which the other plane holds the four high
//                       ones in a nibble (of 64 weights in a byte)
//
// Bits are per weight; but for the last line they are those of the file. The types of that line are
// those that kernels know by_chunks: they share a layout, and kernels.
//
// A row ends with zeros up to the next multiple of 16 bytes; padding columns are zeros, too. A row
// holds all of a neuron's weights in one stretch, so rows can be listed, skipped and exchanged one
// by one.
#pragma once

#include <cstddef>
#include <cstdint>

#include "runtime/core/dtype.h"

namespace thermocline {

// The type that stands for all that share the last layout.
inline constexpr DType kGpuGridType = DType::kIQ2_XXS;
// Returns what a type is to layouts and kernels: itself, kGpuGridType, or Q4_0, whose nibbles hold
// the weights of S2_0 and S3_0 exactly.
constexpr DType GpuDType(DType dtype) {
  if (dtype == DType::kS2_0 || dtype == DType::kS3_0) return DType::kQ4_0;
  return TraitsOf(dtype).by_chunks ? kGpuGridType : dtype;
}

// A matrix on the GPU. data: rows * row_bytes bytes, 16-byte aligned.
struct GpuMatrix {
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t row_bytes = 0;  // GpuRowBytes(dtype, cols)
  const std::byte* data = nullptr;
};

// Rounds cols up to what kernels read of a row.
int64_t GpuPaddedCols(int64_t cols);
// Returns the bytes from one row to the next. REQUIRES: a computable type; cols a multiple of its
// block.
int64_t GpuRowBytes(DType dtype, int64_t cols);
// Describes the matrix at `data` on the GPU, once rows have been packed and copied there.
GpuMatrix MakeGpuMatrix(const void* data, DType dtype, int64_t rows, int64_t cols);

// Packs rows on the host. rows: n_rows rows in the file's layout, `row_stride_bytes` apart, any
// alignment. out: n_rows * GpuRowBytes(dtype, cols) bytes, also of any alignment. Any number of
// threads may pack rows of one matrix.
void PackGpuRows(DType dtype, const std::byte* rows, int64_t row_stride_bytes, int64_t n_rows,
                 int64_t cols, std::byte* out);

}  // namespace thermocline
