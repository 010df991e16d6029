// The parts that the f32 and the bf16 GEMM share. Both take words of four bytes along k: one f32,
// or two bf16. A panel holds, per word, 32 outputs' words; a tile of T tokens holds, per word, T
// tokens' words.
#pragma once

#include "cpu_kernels/convert_simd.h"
#include "cpu_kernels/gemm_tiles_avx512.h"
#include "cpu_kernels/kernel_args.h"
#include "cpu_kernels/simd_avx512.h"

namespace thermocline::avx512 {

// Multiplies two groups of 16 outputs by T tokens: 24 sums for T = 12. Op has kStep (weights in a
// word) and multiply_add(sum, weights, word of x).
template <class Op>
struct FloatTile {
  using V = Simd;
  using Output = TileOutput;
  static constexpr int64_t kOutputs = kGemmPanel;
  static constexpr int kTileTokens = 12;
  static constexpr int64_t kStep = Op::kStep;
  static constexpr int64_t kInputStepBytes = 4;
  static constexpr int64_t kPanelStepBytes = kGemmPanel * 4;

  template <int kTokens>
  static void run(const std::byte* panel, const std::byte* x, int64_t n_words,
                  const TileOutput& out, LinePrefetcher& ahead) {
    __m512 sums[kTokens][2];
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) {
      sums[t][0] = out.first(t, 0);
      sums[t][1] = out.first(t, 1);
    }
    LinePrefetcher lines = ahead;
    for (int64_t i = 0; i < n_words; ++i) {
      lines.step();
      const auto* words = reinterpret_cast<const int32_t*>(x);
      const __m512i w0 = _mm512_load_si512(panel);
      const __m512i w1 = _mm512_load_si512(panel + 64);
#pragma GCC unroll 16
      for (int t = 0; t < kTokens; ++t) {
        const __m512i word = _mm512_set1_epi32(words[t]);
        sums[t][0] = Op::multiply_add(sums[t][0], w0, word);
        sums[t][1] = Op::multiply_add(sums[t][1], w1, word);
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

// Transposes 16 x 16 words.
[[gnu::always_inline]] inline void transpose_16(__m512i* v) {
  __m512i t[16];
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    const __m512i a = _mm512_unpacklo_epi32(v[i], v[i + 1]);
    const __m512i b = _mm512_unpackhi_epi32(v[i], v[i + 1]);
    const __m512i c = _mm512_unpacklo_epi32(v[i + 2], v[i + 3]);
    const __m512i d = _mm512_unpackhi_epi32(v[i + 2], v[i + 3]);
    t[i] = _mm512_unpacklo_epi64(a, c);
    t[i + 1] = _mm512_unpackhi_epi64(a, c);
    t[i + 2] = _mm512_unpacklo_epi64(b, d);
    t[i + 3] = _mm512_unpackhi_epi64(b, d);
  }
  // t[4 q + j], lane L: word 4 L + j of rows 4 q ... 4 q + 3.
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const __m512i a = _mm512_shuffle_i32x4(t[j], t[4 + j], 0x88);       // lanes 0 2 of q = 0, 1
    const __m512i b = _mm512_shuffle_i32x4(t[8 + j], t[12 + j], 0x88);  // ... of q = 2, 3
    const __m512i c = _mm512_shuffle_i32x4(t[j], t[4 + j], 0xdd);       // lanes 1 3
    const __m512i d = _mm512_shuffle_i32x4(t[8 + j], t[12 + j], 0xdd);
    v[j] = _mm512_shuffle_i32x4(a, b, 0x88);
    v[8 + j] = _mm512_shuffle_i32x4(a, b, 0xdd);
    v[4 + j] = _mm512_shuffle_i32x4(c, d, 0x88);
    v[12 + j] = _mm512_shuffle_i32x4(c, d, 0xdd);
  }
}

// Packs 16 rows whose words are loaded by load(row, word, n) (n <= 16 words, zeros beyond) as one
// half of a panel; rows from n on become zeros. kLines of `ahead` are asked for with each 16 words.
template <int kLines, class Load>
[[gnu::always_inline]] inline void pack_16_rows(int64_t n, int64_t n_words, std::byte* out,
                                                LinePrefetcher& ahead, const Load& load) {
  for (int64_t i = 0; i < n_words; i += 16) {
    const int64_t words = n_words - i < 16 ? n_words - i : 16;
    for (int line = 0; line < kLines; ++line) ahead.step();
    __m512i v[16];
    if (n == 16 && words == 16) {
#pragma GCC unroll 16
      for (int r = 0; r < 16; ++r) v[r] = load(r, i, 16);
      transpose_16(v);
#pragma GCC unroll 16
      for (int w = 0; w < 16; ++w) _mm512_store_si512(out + (i + w) * (kGemmPanel * 4), v[w]);
      continue;
    }
    for (int r = 0; r < 16; ++r) v[r] = r < n ? load(r, i, words) : _mm512_setzero_si512();
    transpose_16(v);
    for (int64_t w = 0; w < words; ++w) {
      _mm512_store_si512(out + (i + w) * (kGemmPanel * 4), v[w]);
    }
  }
}

// Loads the 32 columns from `col` of a row, with zeros beyond the first `left`.
template <class W>
[[gnu::always_inline]] inline void load_columns(const std::byte* row, int64_t col, int64_t left,
                                                __m512* out) {
  if constexpr (W::kBlocks) {
    load_weights<Simd, W>(row, col, out);
    return;
  } else {
    const std::byte* p = row + column_offset<W>(col);
    if (left >= 32) {
      out[0] = W::load(p);
      out[1] = W::load(p + 16 * W::kBytes);
      return;
    }
    out[0] = W::load_n(p, left < 16 ? left : 16);
    out[1] = left > 16 ? W::load_n(p + 16 * W::kBytes, left - 16) : _mm512_setzero_ps();
  }
}

constexpr int64_t kRowsAhead = 12;  // rows ahead in which a pack of columns prefetches

// Does what for_columns does for a word, with one row or two, of a type that is read as octets.
template <class W, class Take>
[[gnu::always_inline]] inline void take_octets(const GemmPackArgs& args,
                                               const std::byte* const* rows, int64_t word,
                                               const Take& take) {
  for (int64_t col = args.begin; col < args.end; col += kOctetCols) {
    const int64_t end = args.end - col < kOctetCols ? args.end : col + kOctetCols;
    alignas(64) float values[2][kOctetCols] = {};
    for (int s = 0; s < 2; ++s) {
      if (rows[s] != nullptr) W::to_floats(rows[s], col, end, values[s]);
    }
    for (int64_t c = 0; c < end - col; c += kGemmPanel) {
      const __m512 w[2][2] = {{_mm512_load_ps(values[0] + c), _mm512_load_ps(values[0] + c + 16)},
                              {_mm512_load_ps(values[1] + c), _mm512_load_ps(values[1] + c + 16)}};
      take(word, (col - args.begin + c) / kGemmPanel, w[0], w[1]);
    }
  }
}

// Calls take(word, panel, first, second) for each word (kStep rows) and each panel of columns: the
// two registers of each row, of zeros where the last word has no second row.
template <class W, int kStep, class Take>
[[gnu::always_inline]] inline void for_columns(const GemmPackArgs& args, const Take& take) {
  const int64_t begin_bytes = column_offset<W>(args.begin);
  const int64_t end_bytes = column_offset<W>(args.end - 1) + W::kBytes;
  for (int64_t i = 0; i < args.n_rows; i += kStep) {
    const std::byte* rows[2] = {args.w + i * args.row_stride_bytes, nullptr};
    if (kStep == 2 && i + 1 < args.n_rows) rows[1] = rows[0] + args.row_stride_bytes;
    for (int s = 0; s < kStep; ++s) {
      const std::byte* next = rows[0] + (kRowsAhead + s) * args.row_stride_bytes;
      for (int64_t at = begin_bytes; at < end_bytes + 63; at += 64) {
        _mm_prefetch(reinterpret_cast<const char*>(next + at), _MM_HINT_T0);
      }
    }
    if constexpr (reads_octets<W>()) {
      take_octets<W>(args, rows, i / kStep, take);
      continue;
    } else {
      for (int64_t col = args.begin; col < args.end; col += kGemmPanel) {
        __m512 w[2][2] = {};
        load_columns<W>(rows[0], col, args.end - col, w[0]);
        if (rows[1] != nullptr) load_columns<W>(rows[1], col, args.end - col, w[1]);
        take(i / kStep, (col - args.begin) / kGemmPanel, w[0], w[1]);
      }
    }
  }
}

// Lays activations out by squares of 16 words. to_words(x, n) converts the next n <= 16 * kStep of
// a token, with zeros beyond.
template <class Tile, class ToWords>
[[gnu::always_inline]] inline void prepare_words(const GemmPrepareArgs& args,
                                                 const ToWords& to_words) {
  const Tiles tiles(args.n_tokens, Tile::kTileTokens);
  const int64_t n_words = (args.k + Tile::kStep - 1) / Tile::kStep;
  for (int64_t tile = args.tile_begin; tile < args.tile_end; ++tile) {
    const int64_t begin = tiles.begin(tile);
    const int64_t size = tiles.size(tile);
    const __mmask16 tokens = Simd::first(size);
    std::byte* out = args.out + begin * n_words * 4;
    for (int64_t i = 0; i < n_words; i += 16) {
      const int64_t col = i * Tile::kStep;
      const int64_t left = args.k - col;
      __m512i v[16];
      for (int t = 0; t < 16; ++t) {
        v[t] = t >= size ? _mm512_setzero_si512()
                         : to_words(args.x + (begin + t) * args.k + col,
                                    left < 16 * Tile::kStep ? left : 16 * Tile::kStep);
      }
      transpose_16(v);
      for (int64_t w = 0; w < 16 && i + w < n_words; ++w, out += size * 4) {
        _mm512_mask_storeu_epi32(out, tokens, v[w]);
      }
    }
  }
}

}  // namespace thermocline::avx512
