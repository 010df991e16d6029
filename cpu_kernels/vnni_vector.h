// Where the parts of a prepared vector (VectorForm::kQ8 with VNNI) lie.
#pragma once

#include <cstdint>

#include "runtime/core/dtype.h"

namespace thermocline::avx512 {

// It holds x twice, each part starting at a cache line, blocks beyond n being zeros:
//   for Q8_0 and Q6_K, per pair of blocks: 64 int8 in order; 16 int32 starts, -128 times the sum of
//     the four int8 that share an int32 lane; 16 f32, d of the pair's first block eight times, then
//     of its second; all pairs' int8 first, then all starts, then all scales;
//   for Q4_0, per four blocks: 64 int8, the first halves of the blocks, and 64, the second halves;
//     16 starts, of the eight int8 that share a lane; 16 f32, each block's d four times; laid out
//     likewise.
struct VnniVector {
  int64_t n_pairs;
  int64_t n_quads;

  explicit VnniVector(int64_t n_cols)
      : n_pairs((n_cols / kQuantBlock + 1) / 2), n_quads((n_cols / kQuantBlock + 3) / 4) {}

  int64_t pair_starts() const { return n_pairs * 64; }
  int64_t pair_scales() const { return n_pairs * 128; }
  int64_t quad_bytes() const { return n_pairs * 192; }
  int64_t quad_starts() const { return quad_bytes() + n_quads * 128; }
  int64_t quad_scales() const { return quad_bytes() + n_quads * 192; }
  int64_t total() const { return quad_bytes() + n_quads * 256; }
};

}  // namespace thermocline::avx512
