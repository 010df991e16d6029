// accumulate_channels for Q4_0 by VNNI (vpdpbusd: unsigned times signed bytes, four at a time,
// added to int32), where turning nibbles into floats would be what limits.
//
// Rows of a list go 16 at a time. For each strip of 128 columns and each block of 32 of them the
// products h_i d_i of a row's factor and its block's scale are rounded to 8 bits, by one scale for
// the 16 rows. The nibbles of four rows are interleaved, so that a dword has one column of each,
// and multiplied by the four rows' factors. Floats are made once per 16 rows.
//
// Nibbles are w + 8: 8 times the sum of the factors is taken off again in int32. The largest sum is
// 16 * 15 * 127 < 2^15.
#include "cpu_kernels/accumulate_simd.h"
#include "cpu_kernels/avx512.h"
#include "cpu_kernels/quad_q4.h"
#include "cpu_kernels/simd_avx512.h"

namespace thermocline::avx512 {
namespace {

constexpr int kGroup = 16;           // rows at a time
constexpr int kFours = kGroup / 4;   // fours of rows that share dwords
constexpr int64_t kStripCols = 128;  // four blocks

// Returns the f16 scales of a strip's four blocks, in the low 64 bits.
[[gnu::always_inline]] inline __m128i strip_scales(const std::byte* p) {
  const __m512i at = _mm512_castsi128_si512(_mm_setr_epi16(0, 9, 18, 27, 0, 9, 18, 27));
  return _mm512_castsi512_si128(_mm512_permutexvar_epi16(at, _mm512_loadu_si512(p)));
}

// The factors of a strip's blocks in 8 bits.
struct StripFactors {
  __m512i bytes[kFours];  // lane b: dwords of four rows' factors for block b
  __m512 scale;           // lane b: of block b
};

// h4: for four rows each, lane r holds h_r four times.
[[gnu::always_inline]] inline StripFactors strip_factors(const std::byte* const* rows,
                                                         int64_t offset, const __m512* h4) {
  __m512 products[kFours];
  __m512i most = _mm512_setzero_si512();
#pragma GCC unroll 8
  for (int q = 0; q < kFours; ++q) {
    const std::byte* const* four = rows + 4 * q;
    const __m128i low =
        _mm_unpacklo_epi64(strip_scales(four[0] + offset), strip_scales(four[1] + offset));
    const __m128i high =
        _mm_unpacklo_epi64(strip_scales(four[2] + offset), strip_scales(four[3] + offset));
    products[q] = _mm512_mul_ps(_mm512_cvtph_ps(_mm256_set_m128i(high, low)), h4[q]);
    // As integers, since the largest of floats forgets what is no number.
    most = _mm512_max_epu32(most, _mm512_castps_si512(_mm512_abs_ps(products[q])));
  }
  most = _mm512_max_epu32(most, _mm512_shuffle_i64x2(most, most, 0x4e));
  most = _mm512_max_epu32(most, _mm512_shuffle_i64x2(most, most, 0xb1));
  const __m128 largest = _mm_castsi128_ps(_mm512_castsi512_si128(most));
  const __mmask8 some = _mm_cmp_ps_mask(largest, _mm_set1_ps(kSmallestQ8Block), _CMP_NLT_UQ);
  const __m512 inverse = _mm512_broadcast_f32x4(_mm_maskz_div_ps(some, _mm_set1_ps(127), largest));
  StripFactors factors;
  const __m128i by_block = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512i to_lanes = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
  for (int q = 0; q < kFours; ++q) {
    const __m512i rounded = _mm512_cvtps_epi32(_mm512_mul_ps(products[q], inverse));
    const __m128i bytes = _mm_shuffle_epi8(_mm512_cvtsepi32_epi8(rounded), by_block);
    factors.bytes[q] = _mm512_permutexvar_epi32(to_lanes, _mm512_castsi128_si512(bytes));
  }
  const __m128 scale = _mm_maskz_div_ps(some, largest, _mm_set1_ps(127));
  factors.scale = _mm512_permutexvar_ps(to_lanes, _mm512_castps128_ps512(scale));
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

[[gnu::always_inline]] inline void add_strip(const std::byte* const* rows, int64_t offset,
                                             const __m512* h4, float* y) {
  const StripFactors factors = strip_factors(rows, offset, h4);
  const __m512i low_bits = _mm512_set1_epi8(15);
  const __m512i eights = _mm512_set1_epi8(8);
  __m512i low[4] = {};
  __m512i high[4] = {};
  __m512i owed = _mm512_setzero_si512();
#pragma GCC unroll 4
  for (int q = 0; q < kFours; ++q) {
    __m512i nibbles[4];
    for (int r = 0; r < 4; ++r) {
      const std::byte* const p = rows[4 * q + r] + offset;
      nibbles[r] = quad_nibbles(_mm512_loadu_si512(p), p + 64);
    }
    __m512i mixed[4];
    interleave(nibbles, mixed);
    const __m512i factor = factors.bytes[q];
    owed = _mm512_dpbusd_epi32(owed, eights, factor);
    for (int k = 0; k < 4; ++k) {
      low[k] = _mm512_dpbusd_epi32(low[k], _mm512_and_si512(mixed[k], low_bits), factor);
      const __m512i upper = _mm512_and_si512(_mm512_srli_epi16(mixed[k], 4), low_bits);
      high[k] = _mm512_dpbusd_epi32(high[k], upper, factor);
    }
  }
  add_sums(low, owed, factors.scale, y);
  add_sums(high, owed, factors.scale, y + 16);
}

// Adds entries [first, first + n) of the list, at most kGroup, to the columns of whole strips.
void add_group(const AccumulateArgs& args, int64_t first, int n, int64_t n_strips) {
  const std::byte* rows[kGroup];
  const std::byte* next[kGroup];
  alignas(64) float h[kGroup];
  const std::byte* const w = args.w + column_offset<Weights<Simd, DType::kQ4_0>>(args.col_begin);
  const auto row_at = [&](int64_t i) {
    const int64_t at = i < args.n_rows ? i : args.n_rows - 1;
    return w + (args.rows != nullptr ? args.rows[at] : at) * args.row_stride_bytes;
  };
  for (int r = 0; r < kGroup; ++r) {
    h[r] = r < n ? args.h[first + r] : 0;
    rows[r] = row_at(first + (r < n ? r : n - 1));
    next[r] = row_at(first + kGroup + r);
  }
  __m512 h4[kFours];
  for (int q = 0; q < kFours; ++q) {
    const __m512 four = _mm512_broadcast_f32x4(_mm_load_ps(h + 4 * q));
    h4[q] = _mm512_permutexvar_ps(_mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3),
                                  four);
  }
  float* y = args.y + args.col_begin;
  // The rows of the next group are asked for one after the other.
  const int64_t n_ahead = kGroup * kQuadBytes / kCacheLine + 1;
  int64_t at = 0;
  int row = 0;
  for (int64_t s = 0; s < n_strips; ++s, y += kStripCols) {
    for (int64_t i = 0; i < n_ahead; ++i) {
      _mm_prefetch(reinterpret_cast<const char*>(next[row] + at), _MM_HINT_T1);
      at += kCacheLine;
      if (at < n_strips * kQuadBytes) continue;
      at = 0;
      row = row + 1 < kGroup ? row + 1 : row;
    }
    add_strip(rows, s * kQuadBytes, h4, y);
  }
}

void accumulate_strips_of_q4_0(const AccumulateArgs& args) {
  const int64_t n_strips = (args.col_end - args.col_begin) / kStripCols;
  for (int64_t i = 0; n_strips > 0 && i < args.n_rows; i += kGroup) {
    const int64_t left = args.n_rows - i;
    add_group(args, i, left < kGroup ? static_cast<int>(left) : kGroup, n_strips);
  }
  AccumulateArgs rest = args;
  rest.col_begin += n_strips * kStripCols;
  if (rest.col_begin < rest.col_end) accumulate_q4_0(rest);
}

}  // namespace

void vnni_accumulate_channels(DType dtype, const std::byte* w, int64_t row_stride_bytes,
                              const float* h, const int32_t* rows, int64_t n_rows,
                              int64_t col_begin, int64_t col_end, float* y) {
  const AccumulateArgs args = {w, row_stride_bytes, h, rows, n_rows, col_begin, col_end, y};
  if (dtype == DType::kQ4_0) {
    accumulate_strips_of_q4_0(args);
  } else {
    accumulate_any(dtype, args);
  }
}

}  // namespace thermocline::avx512
