// What the GEMM kernels of every vector unit V share: how tokens fall into tiles, and the prefetch
// of the weights that come next. V is one type per instruction set, so that each has code of its
// own.
#pragma once

#include <immintrin.h>

#include "cpu_kernels/gemm.h"

namespace thermocline {

// Cuts tokens into tiles of as equal sizes as can be: a last tile of one or two tokens would run at
// half the speed.
template <class V>
struct GemmTiles {
  int64_t n_tokens;
  int64_t n_tiles;

  GemmTiles(int64_t tokens, int64_t tile_tokens)
      : n_tokens(tokens), n_tiles((tokens + tile_tokens - 1) / tile_tokens) {}
  int64_t begin(int64_t tile) const { return n_tokens * tile / n_tiles; }
  int64_t size(int64_t tile) const { return begin(tile + 1) - begin(tile); }
};

// Walks over the cache lines of RowsAhead, one line a step.
template <class V>
class GemmLinePrefetcher {
 public:
  explicit GemmLinePrefetcher(const RowsAhead& rows)
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
// panels, which are in the second, go by. Kernel has its vector unit V, Output (where sums go),
// kTileTokens, kOutputs (that a run takes, a divisor of kGemmPanel), kStep (columns of k a step
// takes), kInputStepBytes and kPanelStepBytes (a step's bytes of a token, and of kOutputs) and run.
template <class Kernel>
void multiply_tiles(const GemmProduct& p) {
  const GemmTiles<typename Kernel::V> tiles(p.n_tokens, Kernel::kTileTokens);
  const int64_t steps = (p.k_end - p.k_begin + Kernel::kStep - 1) / Kernel::kStep;
  const int64_t x_steps = (p.x_k + Kernel::kStep - 1) / Kernel::kStep;
  const int64_t first_step = p.k_begin / Kernel::kStep;
  GemmLinePrefetcher<typename Kernel::V> ahead(p.ahead);
  for (int64_t tile = 0; tile < tiles.n_tiles; ++tile) {
    const int64_t begin = tiles.begin(tile);
    const int64_t size = tiles.size(tile);
    const int64_t x_offset = (begin * x_steps + size * first_step) * Kernel::kInputStepBytes;
    for (int64_t o = 0; o < p.n_outputs; o += Kernel::kOutputs) {
      const std::byte* panel = p.panels + o / Kernel::kOutputs * steps * Kernel::kPanelStepBytes;
      const auto run = [&](const std::byte* x, int64_t first, int64_t n_steps, bool accumulate) {
        const typename Kernel::Output out(p.out + begin * p.ldo + o, p.ldo, accumulate,
                                          p.n_outputs - o);
        const std::byte* const part = panel + first * Kernel::kPanelStepBytes;
        const std::byte* const x_part = x + x_offset + size * first * Kernel::kInputStepBytes;
        run_for_tokens<Kernel, Kernel::kTileTokens>(size, part, x_part, n_steps, out, ahead);
      };
      if (p.rest == nullptr) {
        run(p.x, 0, steps, p.accumulate);
        continue;
      }
      constexpr int64_t kBlockSteps = kGemmBlock / Kernel::kStep;
      for (int64_t first = 0; first < steps; first += kBlockSteps) {
        const int64_t n_steps = steps - first < kBlockSteps ? steps - first : kBlockSteps;
        run(p.x, first, n_steps, p.accumulate || first > 0);
        run(p.rest, first, n_steps, true);
      }
    }
  }
}

}  // namespace thermocline
