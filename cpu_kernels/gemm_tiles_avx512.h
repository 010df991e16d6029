// What the AVX-512 GEMM kernels share: how sums are stored, and the yardstick. Included by units of
// that instruction set only.
#pragma once

#include <immintrin.h>

#include "cpu_kernels/gemm_tiles.h"
#include "cpu_kernels/simd_avx512.h"

namespace thermocline::avx512 {

using Tiles = GemmTiles<Simd>;
using LinePrefetcher = GemmLinePrefetcher<Simd>;

// Where a tile's sums go: kTokens rows of up to 32 columns.
struct TileOutput {
  float* out;
  int64_t ldo;
  bool accumulate;
  __mmask16 mask[2];

  TileOutput(float* to, int64_t stride, bool add, int64_t n_columns)
      : out(to), ldo(stride), accumulate(add) {
    const uint32_t bits = n_columns >= 32 ? ~0U : (1U << n_columns) - 1U;
    mask[0] = static_cast<__mmask16>(bits);
    mask[1] = static_cast<__mmask16>(bits >> 16);
  }

  [[gnu::always_inline]] __m512 first(int token, int group) const {
    if (!accumulate) return _mm512_setzero_ps();
    return _mm512_maskz_loadu_ps(mask[group], out + token * ldo + group * 16);
  }
  [[gnu::always_inline]] void store(int token, int group, __m512 sum) const {
    _mm512_mask_storeu_ps(out + token * ldo + group * 16, mask[group], sum);
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
  for (int c = 0; c < kChains; ++c) asm volatile("" : "+v"(sums[c]));
  __m512i w = _mm512_set1_epi8(1);
  __m512i x = _mm512_set1_epi8(2);
  for (int64_t i = 0; i < n; ++i) {
    asm volatile("" : "+v"(w), "+v"(x));
#pragma GCC unroll 16
    for (int c = 0; c < kChains; ++c) sums[c] = Op::multiply_add(sums[c], w, x);
  }
#pragma GCC unroll 16
  for (int c = 0; c < kChains; ++c) asm volatile("" ::"v"(sums[c]));
  return n * kChains * Op::kProducts;
}

}  // namespace thermocline::avx512
