// accumulate_rows for Q4_0 with AVX-512, where turning nibbles into floats is what limits. Four
// blocks are gathered into one register, 16 words of eight nibbles; shifted right by 4 k and used
// as indices (vpermps looks at the low four bits only), they pick 16 values out of a register. So
// eight vectors of 16 columns cost eight permutations and seven shifts; but each vector holds every
// eighth nibble's columns, and y must be in that order. y is brought into it once, before all rows,
// and back afterwards.
#include "cpu_kernels/accumulate_simd.h"
#include "cpu_kernels/avx512.h"
#include "cpu_kernels/quad_q4.h"
#include "cpu_kernels/simd_avx512.h"

namespace thermocline::avx512 {
namespace {

using Weights = Q4Weights<Simd>;
constexpr int64_t kQuadCols = 4 * kQuantBlock;

// As Strips<Simd, Weights>, for y in the order described above.
struct QuadStrips {
  static constexpr int64_t kCols = kQuadCols;

  template <int kRows>
  static void add(const std::byte* const* w, int64_t offset, const float* h, float* y) {
    const __m512 values = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
    __m512 sums[8];
    for (int v = 0; v < 8; ++v) sums[v] = _mm512_loadu_ps(y + v * 16);
      // Not unrolled: more pointers than general registers would go through vector registers.
#pragma GCC unroll 1
    for (int r = 0; r < kRows; ++r) {
      const QuadQ4 quad = load_quad_q4(w[r] + offset);
      const __m512 scales = _mm512_mul_ps(_mm512_set1_ps(h[r]), _mm512_cvtph_ps(quad.scales));
      for (int v = 0; v < 8; ++v) {
        const __m512i index = _mm512_srli_epi32(quad.nibbles, static_cast<unsigned>(4 * v));
        sums[v] = _mm512_fmadd_ps(scales, _mm512_permutexvar_ps(index, values), sums[v]);
      }
    }
    for (int v = 0; v < 8; ++v) _mm512_storeu_ps(y + v * 16, sums[v]);
  }

  template <int kRows>
  static void add_rest(const std::byte* const* w, int64_t offset, const float* h, float* y,
                       int64_t n) {
    Strips<Simd, Weights>::add_rest<kRows>(w, offset, h, y, n);
  }
};

// Transposes a 4 x 4 matrix of groups of four floats.
void transpose_groups(__m512* x) {
  const __m512 a = _mm512_shuffle_f32x4(x[0], x[1], 0x88);
  const __m512 b = _mm512_shuffle_f32x4(x[2], x[3], 0x88);
  const __m512 c = _mm512_shuffle_f32x4(x[0], x[1], 0xdd);
  const __m512 d = _mm512_shuffle_f32x4(x[2], x[3], 0xdd);
  x[0] = _mm512_shuffle_f32x4(a, b, 0x88);
  x[1] = _mm512_shuffle_f32x4(c, d, 0x88);
  x[2] = _mm512_shuffle_f32x4(a, b, 0xdd);
  x[3] = _mm512_shuffle_f32x4(c, d, 0xdd);
}

// Vector v of a quad in nibble order: v even, low nibbles: columns 32 b + 4 i + v / 2 at lane 4 b +
// i; v odd, high nibbles: 16 columns further on. Both directions transpose within registers and
// between them.
template <bool kToNibbleOrder>
void reorder(float* y, int64_t n) {
  const __m512i transposed =
      _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  for (; n >= kQuadCols; n -= kQuadCols, y += kQuadCols) {
    __m512 halves[2][4];  // low and high nibbles
    for (int half = 0; half < 2; ++half) {
      __m512* x = halves[half];
      for (int b = 0; b < 4; ++b) x[b] = _mm512_loadu_ps(y + b * 32 + half * 16);
      if constexpr (kToNibbleOrder) {
        for (int b = 0; b < 4; ++b) x[b] = _mm512_permutexvar_ps(transposed, x[b]);
      }
      transpose_groups(x);
      if constexpr (!kToNibbleOrder) {
        for (int b = 0; b < 4; ++b) x[b] = _mm512_permutexvar_ps(transposed, x[b]);
      }
    }
    for (int half = 0; half < 2; ++half) {
      for (int b = 0; b < 4; ++b) _mm512_storeu_ps(y + b * 32 + half * 16, halves[half][b]);
    }
  }
}

}  // namespace

void accumulate_q4(const AccumulateArgs& args) {
  float* y = args.y + args.col_begin;
  const int64_t n = args.col_end - args.col_begin;
  reorder<true>(y, n);
  accumulate_strips<Weights, QuadStrips>(args);
  reorder<false>(y, n);
}

}  // namespace thermocline::avx512
