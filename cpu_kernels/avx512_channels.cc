// accumulate_channels (cpu_kernels/channel_rows.h) for Q4_0 by VNNI.
//
// The nibbles of four rows are interleaved, so that a dword has one column of each, and multiplied
// by the four rows' factors of 8 bits (vpdpbusd: unsigned times signed bytes, four at a time, added
// to int32). Nibbles are w + 8: 8 times the sum of the factors is taken off again in int32. The
// largest sum is 8 * 15 * 127 < 2^14.
//
// Q8_0 gains nothing from it with registers of this width: floats read as fast as memory does.
#include "cpu_kernels/accumulate_simd.h"
#include "cpu_kernels/avx512.h"
#include "cpu_kernels/channel_rows.h"
#include "cpu_kernels/quad_q4.h"
#include "cpu_kernels/simd_avx512.h"

namespace thermocline::avx512 {
namespace {

constexpr int kFours = kChannelRows / 4;  // fours of rows

// Returns the f16 scales of a strip's four blocks, in the low 64 bits.
[[gnu::always_inline]] inline __m128i strip_scales(const std::byte* p) {
  const __m512i at = _mm512_castsi128_si512(_mm_setr_epi16(0, 9, 18, 27, 0, 9, 18, 27));
  return _mm512_castsi512_si128(_mm512_permutexvar_epi16(at, _mm512_loadu_si512(p)));
}

// The factors of a strip, rounded to [-127, 127].
struct StripFactors {
  __m128i fours[kFours];  // dword b: the bytes of four rows' factors for block b
  __m128 scale;           // lane b: of block b
};

[[gnu::always_inline]] inline StripFactors strip_factors(const std::byte* const* rows,
                                                         int64_t offset, const float* h) {
  const __m512i row_of_lane = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
  __m512 products[kFours];
  __m512i most = _mm512_setzero_si512();
#pragma GCC unroll 8
  for (int q = 0; q < kFours; ++q) {
    const std::byte* const* four = rows + 4 * q;
    const __m128i low =
        _mm_unpacklo_epi64(strip_scales(four[0] + offset), strip_scales(four[1] + offset));
    const __m128i high =
        _mm_unpacklo_epi64(strip_scales(four[2] + offset), strip_scales(four[3] + offset));
    const __m512 of_rows =
        _mm512_permutexvar_ps(row_of_lane, _mm512_castps128_ps512(_mm_load_ps(h + 4 * q)));
    products[q] = _mm512_mul_ps(_mm512_cvtph_ps(_mm256_set_m128i(high, low)), of_rows);
    // As integers, since the largest of floats forgets what is no number.
    most = _mm512_max_epu32(most, _mm512_castps_si512(_mm512_abs_ps(products[q])));
  }
  most = _mm512_max_epu32(most, _mm512_shuffle_i64x2(most, most, 0x4e));
  most = _mm512_max_epu32(most, _mm512_shuffle_i64x2(most, most, 0xb1));
  const __m128 largest = _mm_castsi128_ps(_mm512_castsi512_si128(most));
  const __mmask8 some = _mm_cmp_ps_mask(largest, _mm_set1_ps(kSmallestQ8Block), _CMP_NLT_UQ);
  const __m128 most_of_all = _mm_set1_ps(127);
  const __m512 inverse = _mm512_broadcast_f32x4(_mm_maskz_div_ps(some, most_of_all, largest));
  // Lane 4 r + b has row r of the four and block b.
  const __m128i by_block = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  StripFactors factors;
  for (int q = 0; q < kFours; ++q) {
    const __m512i rounded = _mm512_cvtps_epi32(_mm512_mul_ps(products[q], inverse));
    factors.fours[q] = _mm_shuffle_epi8(_mm512_cvtsepi32_epi8(rounded), by_block);
  }
  factors.scale = _mm_maskz_div_ps(some, largest, most_of_all);
  return factors;
}

// Four registers of bytes as dwords with a byte of each: out[k] has bytes 4 k to 4 k + 3 of every
// lane.
[[gnu::always_inline]] inline void interleave(const __m512i* in, __m512i* out) {
  const __m512i low01 = _mm512_unpacklo_epi8(in[0], in[1]);
  const __m512i high01 = _mm512_unpackhi_epi8(in[0], in[1]);
  const __m512i low23 = _mm512_unpacklo_epi8(in[2], in[3]);
  const __m512i high23 = _mm512_unpackhi_epi8(in[2], in[3]);
  out[0] = _mm512_unpacklo_epi16(low01, low23);
  out[1] = _mm512_unpackhi_epi16(low01, low23);
  out[2] = _mm512_unpacklo_epi16(high01, high23);
  out[3] = _mm512_unpackhi_epi16(high01, high23);
}

// Adds sums of half of a strip's columns: lane b of sums[k] has columns 32 b + 4 k to 32 b + 4 k +
// 3 from y on. Lanes are transposed.
[[gnu::always_inline]] inline void add_sums(const __m512i* sums, __m512i owed, __m512 scale,
                                            float* y) {
  __m512 v[4];
  for (int k = 0; k < 4; ++k) {
    v[k] = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(sums[k], owed)), scale);
  }
  const __m512 a = _mm512_shuffle_f32x4(v[0], v[1], 0x44);
  const __m512 b = _mm512_shuffle_f32x4(v[2], v[3], 0x44);
  const __m512 c = _mm512_shuffle_f32x4(v[0], v[1], 0xee);
  const __m512 d = _mm512_shuffle_f32x4(v[2], v[3], 0xee);
  const __m512 turned[4] = {_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd),
                            _mm512_shuffle_f32x4(c, d, 0x88), _mm512_shuffle_f32x4(c, d, 0xdd)};
  for (int i = 0; i < 4; ++i) {
    float* const to = y + i * kQuantBlock;
    _mm512_storeu_ps(to, _mm512_add_ps(_mm512_loadu_ps(to), turned[i]));
  }
}

struct ChannelStrip {
  static constexpr DType kType = DType::kQ4_0;
  static constexpr auto kHint = _MM_HINT_T1;  // see accumulate_simd.h
  using Factors = StripFactors;

  [[gnu::always_inline]] static inline Factors factors(const std::byte* const* rows, int64_t offset,
                                                       const float* h) {
    return strip_factors(rows, offset, h);
  }

  [[gnu::always_inline]] static inline void add(const Factors& factors,
                                                const std::byte* const* rows, int64_t offset,
                                                float* y) {
    const __m512i to_lanes = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    const __m512i low_bits = _mm512_set1_epi8(15);
    const __m512i eights = _mm512_set1_epi8(8);
    __m512i low[4] = {};
    __m512i high[4] = {};
    __m512i owed = _mm512_setzero_si512();
#pragma GCC unroll 2
    for (int q = 0; q < kFours; ++q) {
      __m512i nibbles[4];
      for (int r = 0; r < 4; ++r) {
        const std::byte* const p = rows[4 * q + r] + offset;
        nibbles[r] = quad_nibbles(_mm512_loadu_si512(p), p + 64);
      }
      __m512i mixed[4];
      interleave(nibbles, mixed);
      // Lane b: dwords of the four rows' factors for block b.
      const __m512i factor =
          _mm512_permutexvar_epi32(to_lanes, _mm512_castsi128_si512(factors.fours[q]));
      owed = _mm512_dpbusd_epi32(owed, eights, factor);
      for (int k = 0; k < 4; ++k) {
        low[k] = _mm512_dpbusd_epi32(low[k], _mm512_and_si512(mixed[k], low_bits), factor);
        const __m512i upper = _mm512_and_si512(_mm512_srli_epi16(mixed[k], 4), low_bits);
        high[k] = _mm512_dpbusd_epi32(high[k], upper, factor);
      }
    }
    const __m512 scale = _mm512_permutexvar_ps(to_lanes, _mm512_castps128_ps512(factors.scale));
    add_sums(low, owed, scale, y);
    add_sums(high, owed, scale, y + 16);
  }
};

}  // namespace

void vnni_accumulate_channels(DType dtype, const std::byte* w, int64_t row_stride_bytes,
                              const float* h, const int32_t* rows, int64_t n_rows,
                              int64_t col_begin, int64_t col_end, float* y) {
  const AccumulateArgs args = {w, row_stride_bytes, h, rows, n_rows, col_begin, col_end, y};
  AccumulateArgs rest = args;
  if (dtype == DType::kQ4_0) rest.col_begin = add_channel_rows<ChannelStrip>(args);
  if (rest.col_begin < rest.col_end) accumulate_any(dtype, rest);
}

}  // namespace thermocline::avx512
