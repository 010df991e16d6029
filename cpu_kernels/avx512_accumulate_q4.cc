// accumulate_rows for Q4_0 and Q4_1 with AVX-512, where turning nibbles into floats is what limits.
// Four blocks are gathered into one register, 16 words of eight nibbles; shifted right by 4 k and
// used as indices (vpermps looks at the low four bits only), they pick 16 values out of a register.
// So eight vectors of 16 columns cost eight permutations and seven shifts; but each vector holds
// every eighth nibble's columns, and y must be in that order. y is brought into it once, before all
// rows, and back afterwards.
#include "cpu_kernels/accumulate_simd.h"
#include "cpu_kernels/avx512.h"
#include "cpu_kernels/quad_q4.h"
#include "cpu_kernels/simd_avx512.h"

namespace thermocline::avx512 {
namespace {

constexpr int64_t kQuadCols = 4 * kQuantBlock;

// Lane 4 j + b of a register holds bytes 4 j .. 4 j + 3 of block b's nibbles.
struct QuadByLane {
  __m512i nibbles;
  __m512 scales;
  __m512 offsets;  // what is added to Q4_1's values
};

template <DType kType>
[[gnu::always_inline]] inline QuadByLane load_quad(const std::byte* p) {
  const __m512i head = quad_head(p);
  QuadByLane quad;
  if constexpr (kType == DType::kQ4_0) {
    // These are words 4..35, of which the last four are wanted.
    const __m512i last = _mm512_loadu_si512(p + 8);
    const __m512i nibbles_at =
        _mm512_set_epi16(63, 62, 26, 25, 17, 16, 8, 7, 61, 60, 24, 23, 15, 14, 6, 5, 31, 30, 22, 21,
                         13, 12, 4, 3, 29, 28, 20, 19, 11, 10, 2, 1);
    const __m512i scales_at = _mm512_castsi256_si512(
        _mm256_setr_epi16(0, 9, 18, 27, 0, 9, 18, 27, 0, 9, 18, 27, 0, 9, 18, 27));
    const __m512i scales = _mm512_permutexvar_epi16(scales_at, head);
    quad.nibbles = _mm512_permutex2var_epi16(head, nibbles_at, last);
    quad.scales = _mm512_cvtph_ps(_mm512_castsi512_si256(scales));
  } else if constexpr (kType == DType::kQ4_1) {
    // These are words 4..19, of which the last four are wanted.
    const __m512i last = _mm512_loadu_si512(p + 16);
    const __m512i nibbles_at =
        _mm512_setr_epi32(1, 6, 11, 28, 2, 7, 12, 29, 3, 8, 13, 30, 4, 9, 14, 31);
    const __m512i halves_at =
        _mm512_set_epi16(31, 21, 11, 1, 31, 21, 11, 1, 31, 21, 11, 1, 31, 21, 11, 1, 30, 20, 10, 0,
                         30, 20, 10, 0, 30, 20, 10, 0, 30, 20, 10, 0);
    const __m512i halves = _mm512_permutexvar_epi16(halves_at, head);
    quad.nibbles = _mm512_permutex2var_epi32(head, nibbles_at, last);
    quad.scales = _mm512_cvtph_ps(_mm512_castsi512_si256(halves));
    quad.offsets = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(halves, 1));
  } else {
    static_assert(kHandlesType<kType>, "a type of nibbles");
  }
  return quad;
}

// Does what Strips<Simd, Weights<Simd, kType>> does, for y in nibble order (see the top of the
// file).
template <DType kType>
struct QuadStrips {
  static constexpr int kMostTokens = 3;
  static constexpr int64_t kCols = kQuadCols;

  template <int kRows, int kTokens>
  static void add(const std::byte* const* w, int64_t offset, const StripTokens& to) {
    constexpr int kLowest = kType == DType::kQ4_0 ? -8 : 0;
    constexpr bool kOffsets = HasOffset<Weights<Simd, kType>>;
    const __m512 values = Simd::nibble_values<kLowest>();
    __m512 sums[kTokens][8];
#pragma GCC unroll 4
    for (int t = 0; t < kTokens; ++t) {
      for (int v = 0; v < 8; ++v) sums[t][v] = _mm512_loadu_ps(to.y + t * to.y_stride + v * 16);
    }
    // The loop is unrolled for the reason that Strips gives.
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const QuadByLane quad = load_quad<kType>(w[r] + offset);
      __m512 factors[kTokens];
#pragma GCC unroll 4
      for (int t = 0; t < kTokens; ++t) {
        factors[t] = _mm512_set1_ps(to.h[t * to.h_stride + r]);
        if constexpr (!kOffsets) factors[t] = _mm512_mul_ps(factors[t], quad.scales);
      }
#pragma GCC unroll 8
      for (int v = 0; v < 8; ++v) {
        const __m512i index = _mm512_srli_epi32(quad.nibbles, static_cast<unsigned>(4 * v));
        __m512 weight = _mm512_permutexvar_ps(index, values);
        if constexpr (kOffsets) weight = _mm512_fmadd_ps(quad.scales, weight, quad.offsets);
#pragma GCC unroll 4
        for (int t = 0; t < kTokens; ++t) {
          sums[t][v] = _mm512_fmadd_ps(factors[t], weight, sums[t][v]);
        }
      }
    }
#pragma GCC unroll 4
    for (int t = 0; t < kTokens; ++t) {
      for (int v = 0; v < 8; ++v) _mm512_storeu_ps(to.y + t * to.y_stride + v * 16, sums[t][v]);
    }
  }

  template <int kRows>
  static void add_rest(const std::byte* const* w, int64_t offset, const StripTokens& to,
                       int64_t n) {
    Strips<Simd, Weights<Simd, kType>>::template add_rest<kRows>(w, offset, to, n);
  }
};

// Brings y into nibble order and back. Vector 2 i + half of a quad, low nibbles or high, holds
// column 32 b + 16 half + 4 j + i at lane 4 j + b, so the vectors of a half are transposed in
// groups of four lanes.
void reorder(float* y, int64_t n) {
  const auto low = [](__m512 a, __m512 b) {
    return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
  };
  const auto high = [](__m512 a, __m512 b) {
    return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
  };
  for (; n >= kQuadCols; n -= kQuadCols, y += kQuadCols) {
    for (float* half = y; half < y + 32; half += 16) {
      __m512 x[4];
      for (int b = 0; b < 4; ++b) x[b] = _mm512_loadu_ps(half + b * 32);
      const __m512 low01 = _mm512_unpacklo_ps(x[0], x[1]);
      const __m512 low23 = _mm512_unpacklo_ps(x[2], x[3]);
      const __m512 high01 = _mm512_unpackhi_ps(x[0], x[1]);
      const __m512 high23 = _mm512_unpackhi_ps(x[2], x[3]);
      _mm512_storeu_ps(half, low(low01, low23));
      _mm512_storeu_ps(half + 32, high(low01, low23));
      _mm512_storeu_ps(half + 64, low(high01, high23));
      _mm512_storeu_ps(half + 96, high(high01, high23));
    }
  }
}

template <DType kType>
void accumulate_quads(const AccumulateArgs& args) {
  const int64_t n = args.col_end - args.col_begin;
  const auto reorder_all = [&] {
    for (int64_t t = 0; t < args.n_tokens; ++t) {
      reorder(args.y + t * args.y_stride + args.col_begin, n);
    }
  };
  reorder_all();
  accumulate_strips<Weights<Simd, kType>, QuadStrips<kType>>(args);
  reorder_all();
}

}  // namespace

void accumulate_q4_0(const AccumulateArgs& args) { accumulate_quads<DType::kQ4_0>(args); }
void accumulate_q4_1(const AccumulateArgs& args) { accumulate_quads<DType::kQ4_1>(args); }

}  // namespace thermocline::avx512
