// The part that the GEMMs in integers share. A block of k holds words of four bytes (four int8, two
// int16) whose products are summed exactly in 32 bits, then scaled by the weights' and the
// activations' scales of the block and added in f32.
//
// A panel holds, per block, kWords x 2 registers: a word of each of the first and of the second 16
// outputs, then the 32 f32 scales, with kOffsets also 32 f32 offsets. A tile of T tokens holds, per
// block, kWords words of each token (words outside, tokens inside), with kStarts T int32 that the
// sums start from (with kOffsets instead T f32 sums of the block, which the offsets are multiplied
// by), and T f32 scales.
#pragma once

#include "cpu_kernels/gemm_tiles_avx512.h"

namespace thermocline::avx512 {

// Multiplies two groups of 16 outputs by T tokens: T x 2 integer and T x 2 float sums, 24 registers
// for T = 6. Op has kTileTokens, kBlock (values along k), kWords of them, kStarts, kOffsets,
// kUnroll (words between two prefetches) and multiply_add(sum, w, x).
template <class Op>
struct IntegerTile {
  using V = Simd;
  using Output = TileOutput;
  static constexpr int64_t kOutputs = kGemmPanel;
  static constexpr int kTileTokens = Op::kTileTokens;
  static constexpr int64_t kStep = Op::kBlock;
  static constexpr int64_t kInputStepBytes =
      (Op::kWords + (Op::kStarts || Op::kOffsets ? 2 : 1)) * 4;
  static constexpr int64_t kPanelStepBytes = kGemmPanel * (Op::kWords + 1 + Op::kOffsets) * 4;

  template <int kTokens>
  static void run(const std::byte* panel, const std::byte* x, int64_t n_blocks,
                  const TileOutput& out, LinePrefetcher& ahead) {
    __m512 sums[kTokens][2];
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) {
      sums[t][0] = out.first(t, 0);
      sums[t][1] = out.first(t, 1);
    }
    LinePrefetcher lines = ahead;
    for (int64_t b = 0; b < n_blocks; ++b) {
      const auto* words = reinterpret_cast<const int32_t*>(x);
      __m512i dots[kTokens][2];
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) {
        dots[t][0] = Op::kStarts ? _mm512_set1_epi32(words[Op::kWords * kTokens + t])
                                 : _mm512_setzero_si512();
        dots[t][1] = dots[t][0];
      }
#pragma GCC unroll 1
      for (int i = 0; i < Op::kWords; i += Op::kUnroll) {
        lines.step();
#pragma GCC unroll 8
        for (int j = i; j < i + Op::kUnroll; ++j) {
          const __m512i w0 = _mm512_load_si512(panel + j * 128);
          const __m512i w1 = _mm512_load_si512(panel + j * 128 + 64);
#pragma GCC unroll 16
          for (int t = 0; t < kTokens; ++t) {
            const __m512i word = _mm512_set1_epi32(words[j * kTokens + t]);
            dots[t][0] = Op::multiply_add(dots[t][0], w0, word);
            dots[t][1] = Op::multiply_add(dots[t][1], w1, word);
          }
        }
      }
      const auto* scales =
          reinterpret_cast<const float*>(words + kInputStepBytes / 4 * kTokens - kTokens);
      const __m512 w_scales[2] = {_mm512_load_ps(panel + Op::kWords * 128),
                                  _mm512_load_ps(panel + Op::kWords * 128 + 64)};
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) {
        const __m512 x_scale = _mm512_set1_ps(scales[t]);
#pragma GCC unroll 2
        for (int g = 0; g < 2; ++g) {
          const __m512 dot = _mm512_mul_ps(_mm512_cvtepi32_ps(dots[t][g]), w_scales[g]);
          sums[t][g] = _mm512_fmadd_ps(dot, x_scale, sums[t][g]);
        }
        if constexpr (Op::kOffsets) {
          const __m512 x_sum = _mm512_set1_ps(scales[t - kTokens]);
#pragma GCC unroll 2
          for (int g = 0; g < 2; ++g) {
            const std::byte* offsets = panel + (Op::kWords + 1) * 128 + g * 64;
            sums[t][g] = _mm512_fmadd_ps(_mm512_load_ps(offsets), x_sum, sums[t][g]);
          }
        }
      }
      panel += kPanelStepBytes;
      x += kInputStepBytes * kTokens;
    }
    ahead = lines;
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) {
      out.store(t, 0, sums[t][0]);
      out.store(t, 1, sums[t][1]);
    }
  }
};

}  // namespace thermocline::avx512
