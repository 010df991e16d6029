// Where the parts of a prepared vector (VectorForm::kQ8 with VNNI) lie.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "runtime/core/dtype.h"

namespace thermocline::avx512 {

// It holds x twice. Each part starts at a cache line, and blocks beyond n are zeros, up to a
// multiple of 256 columns.
//   For Q8_0 and Q6_K, per pair of blocks: 64 int8 in order, then 16 int32 starts, each -128 times
//   the sum of the four int8 that share an int32 lane. All pairs' int8 come first, then all starts.
//   For Q4_0 and Q4_1, per four blocks: 64 int8, the first halves of the blocks, and 64, the second
//   halves; then 16 starts, each of the eight int8 that share a lane. They are laid out in the same
//   way.
//   Once: d of each block, f32, in whole registers of 16; and for types with offsets, d times the
//   sum of each block's int8, in the same way, and d times the sum of each half block's.
struct VnniVector {
  int64_t n_pairs;
  int64_t n_quads;

  explicit VnniVector(int64_t n_cols)
      : n_pairs((n_cols / kQuantBlock + 7) / 8 * 4), n_quads((n_cols / kQuantBlock + 7) / 8 * 2) {}

  int64_t pair_starts() const { return n_pairs * 64; }
  int64_t quad_bytes() const { return n_pairs * 128; }
  int64_t quad_starts() const { return quad_bytes() + n_quads * 128; }
  int64_t scales() const { return quad_bytes() + n_quads * 192; }
  const float* scales_of(const std::byte* vector) const {
    return reinterpret_cast<const float*>(vector + scales());
  }
  int64_t sums() const { return scales() + (n_quads + 3) / 4 * 64; }
  const float* sums_of(const std::byte* vector) const {
    return reinterpret_cast<const float*>(vector + sums());
  }
  int64_t half_sums() const { return sums() + (n_quads + 3) / 4 * 64; }
  const float* half_sums_of(const std::byte* vector) const {
    return reinterpret_cast<const float*>(vector + half_sums());
  }
  int64_t total() const { return half_sums() + n_quads * 32; }
};

// Indices that take two floats eight times each, and four floats four times each, from `first` on.
[[gnu::always_inline]] inline __m512i each_8_times_at(int first) {
  const __m512i from_0 = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
  return _mm512_add_epi32(from_0, _mm512_set1_epi32(first));
}
[[gnu::always_inline]] inline __m512i each_4_times_at(int first) {
  const __m512i from_0 = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
  return _mm512_add_epi32(from_0, _mm512_set1_epi32(first));
}
[[gnu::always_inline]] inline __m512 each_8_times(const float* two) {
  const __m128i pair = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(two));
  return _mm512_permutexvar_ps(each_8_times_at(0), _mm512_castps128_ps512(_mm_castsi128_ps(pair)));
}
[[gnu::always_inline]] inline __m512 each_4_times(const float* four) {
  return _mm512_permutexvar_ps(each_4_times_at(0), _mm512_castps128_ps512(_mm_loadu_ps(four)));
}

}  // namespace thermocline::avx512
