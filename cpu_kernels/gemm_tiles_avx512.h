// What the AVX-512 GEMM kernels share: how tokens fall into tiles, the prefetch of the weights that
// come next, and how sums are stored. Included by units of that instruction set only.
#pragma once

#include <immintrin.h>

#include "cpu_kernels/gemm.h"

namespace thermocline::avx512 {

// Cuts tokens into tiles of as equal sizes as can be: a last tile of one or two tokens would run at
// half the speed.
struct Tiles {
  int64_t n_tokens;
  int64_t n_tiles;

  Tiles(int64_t tokens, int64_t tile_tokens)
      : n_tokens(tokens), n_tiles((tokens + tile_tokens - 1) / tile_tokens) {}
  int64_t begin(int64_t tile) const { return n_tokens * tile / n_tiles; }
  int64_t size(int64_t tile) const { return begin(tile + 1) - begin(tile); }
};

// Walks over the cache lines of RowsAhead, one line a step.
class LinePrefetcher {
 public:
  explicit LinePrefetcher(const RowsAhead& rows)
      : at_(rows.data),
        left_in_row_(rows.row_bytes),
        row_bytes_(rows.row_bytes),
        gap_(rows.row_stride_bytes - rows.row_bytes),
        rows_left_(rows.n_rows) {
    if (gap_ != 0 || rows_left_ == 0) return;  // rows without gaps are one
    left_in_row_ *= rows_left_;
    rows_left_ = 1;
  }

  [[gnu::always_inline]] void step() {
    if (rows_left_ == 0) return;
    _mm_prefetch(reinterpret_cast<const char*>(at_), _MM_HINT_T0);
    at_ += 64;
    left_in_row_ -= 64;
    if (left_in_row_ > 0) return;
    at_ += left_in_row_ + gap_;
    left_in_row_ = row_bytes_;
    --rows_left_;
  }

 private:
  const std::byte* at_;
  int64_t left_in_row_;
  int64_t row_bytes_;
  int64_t gap_;
  int64_t rows_left_;
};

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

// Calls Kernel::run<tokens>(args...) for a number of tokens known only at run time, 1 <= n <=
// kMost.
template <class Kernel, int kMost, class... Args>
[[gnu::always_inline]] inline void run_for_tokens(int64_t n, Args&... args) {
  if constexpr (kMost > 0) {
    if (n == kMost) return Kernel::template run<kMost>(args...);
    run_for_tokens<Kernel, kMost - 1>(n, args...);
  }
}

// Multiplies every tile with every panel: a tile's activations stay in the first cache while the
// panels, which are in the second, go by. Kernel has kTileTokens, k_step (columns of k a step
// takes), input_step_bytes, panel_step_bytes (bytes of a token, of a panel) and run.
template <class Kernel>
void multiply_tiles(const GemmProduct& p) {
  const Tiles tiles(p.n_tokens, Kernel::kTileTokens);
  const int64_t steps = (p.k_end - p.k_begin + Kernel::kStep - 1) / Kernel::kStep;
  const int64_t x_steps = (p.x_k + Kernel::kStep - 1) / Kernel::kStep;
  const int64_t first_step = p.k_begin / Kernel::kStep;
  LinePrefetcher ahead(p.ahead);
  for (int64_t tile = 0; tile < tiles.n_tiles; ++tile) {
    const int64_t begin = tiles.begin(tile);
    const int64_t size = tiles.size(tile);
    const std::byte* x = p.x + (begin * x_steps + size * first_step) * Kernel::kInputStepBytes;
    for (int64_t o = 0; o < p.n_outputs; o += kGemmPanel) {
      const std::byte* panel = p.panels + o / kGemmPanel * steps * Kernel::kPanelStepBytes;
      const TileOutput out(p.out + begin * p.ldo + o, p.ldo, p.accumulate, p.n_outputs - o);
      run_for_tokens<Kernel, Kernel::kTileTokens>(size, panel, x, steps, out, ahead);
    }
  }
}

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
