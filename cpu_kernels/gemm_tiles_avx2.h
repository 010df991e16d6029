// What the AVX2 GEMM kernels share: where sums are kept and stored. Included by units of that
// instruction set only.
#pragma once

#include <immintrin.h>

#include "cpu_kernels/gemm_tiles.h"
#include "cpu_kernels/simd_avx2.h"

namespace thermocline::avx2 {

using Tiles = GemmTiles<Simd>;
using LinePrefetcher = GemmLinePrefetcher<Simd>;

// Where a tile's sums go: tokens' rows of n_columns, or more.
struct TileOutput {
  float* out;
  int64_t ldo;
  bool accumulate;
  int64_t n_columns;

  TileOutput(float* to, int64_t stride, bool add, int64_t columns)
      : out(to), ldo(stride), accumulate(add), n_columns(columns) {}

  [[gnu::always_inline]] __m256 first(int token, int group) const {
    if (!accumulate) return _mm256_setzero_ps();
    const int64_t left = n_columns - group * 8;
    const float* from = out + token * ldo + group * 8;
    if (left >= 8) return _mm256_loadu_ps(from);
    return left > 0 ? Simd::load_n(from, left) : _mm256_setzero_ps();
  }
  [[gnu::always_inline]] void store(int token, int group, __m256 sum) const {
    const int64_t left = n_columns - group * 8;
    float* to = out + token * ldo + group * 8;
    if (left >= 8) {
      _mm256_storeu_ps(to, sum);
    } else if (left > 0) {
      Simd::store_n(to, sum, left);
    }
  }
};

// Runs twelve chains, which hide the latency of two instructions a cycle. Op: multiply_add(sum, w,
// x) on registers of type Sum, kProducts of it. The asm keeps the compiler from taking equal chains
// for one.
template <class Op>
int64_t multiply_registers(int64_t n) {
  constexpr int kChains = 12;
  typename Op::Sum sums[kChains] = {};
#pragma GCC unroll 16
  for (int c = 0; c < kChains; ++c) asm volatile("" : "+x"(sums[c]));
  __m256i w = _mm256_set1_epi8(1);
  __m256i x = _mm256_set1_epi8(2);
  for (int64_t i = 0; i < n; ++i) {
    asm volatile("" : "+x"(w), "+x"(x));
#pragma GCC unroll 16
    for (int c = 0; c < kChains; ++c) {
      sums[c] = Op::multiply_add(sums[c], w, x);
      asm volatile("" : "+x"(w));
    }
  }
#pragma GCC unroll 16
  for (int c = 0; c < kChains; ++c) asm volatile("" ::"x"(sums[c]));
  return n * kChains * Op::kProducts;
}

// Transposes 8 x 8 words.
[[gnu::always_inline]] inline void transpose_8(__m256* v) {
  __m256 t[8];
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    const __m256 a = _mm256_unpacklo_ps(v[i], v[i + 1]);
    const __m256 b = _mm256_unpackhi_ps(v[i], v[i + 1]);
    const __m256 c = _mm256_unpacklo_ps(v[i + 2], v[i + 3]);
    const __m256 d = _mm256_unpackhi_ps(v[i + 2], v[i + 3]);
    t[i] = _mm256_shuffle_ps(a, c, 0x44);
    t[i + 1] = _mm256_shuffle_ps(a, c, 0xee);
    t[i + 2] = _mm256_shuffle_ps(b, d, 0x44);
    t[i + 3] = _mm256_shuffle_ps(b, d, 0xee);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    v[j] = _mm256_permute2f128_ps(t[j], t[4 + j], 0x20);
    v[4 + j] = _mm256_permute2f128_ps(t[j], t[4 + j], 0x31);
  }
}

}  // namespace thermocline::avx2
