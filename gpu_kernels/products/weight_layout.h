// How matrices of weights lie in the GPU's memory.
//
// The values are those of the file's blocks (runtime/core/dtype.h), row by row, but every row
// starts at a multiple of 16 bytes and is read in 16-byte loads from its start. With cols padded to
// a multiple of 32, p columns, a row is
//
//   F32, F16, BF16   p elements
//   Q8_0             p signed bytes, then p / 32 f16 scales
//   Q4_0             p / 2 bytes: block after block the file's 16 bytes with bit 3 of each nibble
//                    flipped, which makes a nibble the two's complement of its value, -8 to 7; then
//                    p / 32 f16 scales
//   Q4_1             p / 2 bytes: block after block the file's 16 bytes; then p / 32 pairs of
//                    an f16 scale and an f16 offset
//   Q6_K             p / 2 bytes: of each 32 weights, byte i holds the low four bits of weight i
//                    and above them those of weight 16 + i;
//                    p / 4 bytes: of each 16 weights, byte i holds the high two bits of weights i,
//                    4 + i, 8 + i and 12 + i, from bit 0 on, bit 5 of a weight flipped, which makes
//                    its six bits the two's complement of its value, -32 to 31;
//                    p / 16 signed bytes, scales of 16 weights each;
//                    p / 256 f16 scales
//
// A row ends with zeros up to the next multiple of 16 bytes; padding columns are zeros, too. A row
// holds all of a neuron's weights in one stretch, so rows can be listed, skipped and exchanged one
// by one.
#pragma once

#include <cstddef>
#include <cstdint>

#include "runtime/core/dtype.h"

namespace thermocline {

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
