// Computes y += sum_i h_i W[i, :] for any vector unit V and weight type W (weights_simd.h). It
// takes eight rows of the list at a time: a strip of y is loaded once, takes eight fused
// multiply-adds per element in the order of the list, and is stored. y (d_model f32) stays in L1.
// What the rows need next is prefetched, further on in the same rows or in those that follow in the
// list. For quantised rows h_i * d is one f32 scale per block, computed for some blocks of all
// eight rows before their weights are looked at. Weights with an offset are decoded first (d q + m,
// rounded once) and then multiplied by h_i: sums of the offsets apart would depend on how the list
// falls into groups.
#pragma once

#include <immintrin.h>

#include "cpu_kernels/kernel_args.h"
#include "cpu_kernels/prefetch_plan.h"
#include "cpu_kernels/weights_simd.h"

namespace thermocline {

inline constexpr int kAccumulateRows = 8;

// Says how a strip of y takes kRows rows: their weights for it lie at w[r] + offset, their factors
// are h[r].
template <class V, class W>
struct Strips {
  using Reg = typename V::Reg;
  static constexpr int kBlocks = V::kLanes / 4;  // quantised types: eight registers of y
  static constexpr int64_t kCols = W::kBlocks ? kBlocks * kQuantBlock : 4 * V::kLanes;

  template <int kRows>
  static void add(const std::byte* const* w, int64_t offset, const float* h, float* y) {
    if constexpr (W::kBlocks) {
      add_blocks<kRows, kBlocks>(w, offset, h, y);
    } else {
      add_floats<kRows>(w, offset, h, y);
    }
  }

  // The columns that do not fill a strip.
  template <int kRows>
  static void add_rest(const std::byte* const* w, int64_t offset, const float* h, float* y,
                       int64_t n) {
    for (int64_t col = 0; col < n; col += W::kBlocks ? kQuantBlock : V::kLanes) {
      const int64_t at = offset + column_offset<W>(col);
      if constexpr (W::kBlocks) {
        add_blocks<kRows, 1>(w, at, h, y + col);
      } else {
        add_some_floats<kRows>(w, at, h, y + col, n - col < V::kLanes ? n - col : V::kLanes);
      }
    }
  }

 private:
  template <int kRows>
  static void add_floats(const std::byte* const* w, int64_t offset, const float* h, float* y) {
    Reg sums[4];
    for (int v = 0; v < 4; ++v) sums[v] = V::load(y + v * V::kLanes);
    for (int r = 0; r < kRows; ++r) {
      const Reg factor = V::set1(h[r]);
      for (int v = 0; v < 4; ++v) {
        sums[v] = V::fma(factor, W::load(w[r] + offset + v * V::kLanes * W::kBytes), sums[v]);
      }
    }
    for (int v = 0; v < 4; ++v) V::store(y + v * V::kLanes, sums[v]);
  }

  template <int kRows>
  static void add_some_floats(const std::byte* const* w, int64_t offset, const float* h, float* y,
                              int64_t n) {
    Reg sum = V::load_n(y, n);
    for (int r = 0; r < kRows; ++r) sum = V::fma(V::set1(h[r]), W::load_n(w[r] + offset, n), sum);
    V::store_n(y, sum, n);
  }

  // Takes several blocks side by side, since the additions to one column wait for each other.
  template <int kRows, int kSideBySide>
  static void add_blocks(const std::byte* const* w, int64_t offset, const float* h, float* y) {
    Reg sums[kSideBySide * W::kRegs];
    for (int v = 0; v < kSideBySide * W::kRegs; ++v) sums[v] = V::load(y + v * V::kLanes);
      // The loop is unrolled so that each row has loads of its own: one load that goes from row to
      // row looks like a stride to the prefetcher, which then fetches rows beyond the last.
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Reg factor = V::set1(h[r]);
      for (int b = 0; b < kSideBySide; ++b) {
        Reg weights[W::kRegs];
        const std::byte* block = w[r] + offset + b * W::kBytes;
        W::integers(block, weights);
        Reg* to = sums + b * W::kRegs;
        if constexpr (HasOffset<W>) {
          const Reg d = W::scale(block);
          const Reg m = W::offset(block);
          for (int v = 0; v < W::kRegs; ++v) {
            to[v] = V::fma(factor, V::fma(d, weights[v], m), to[v]);
          }
        } else {
          const Reg scale = V::mul(factor, W::scale(block));
          for (int v = 0; v < W::kRegs; ++v) to[v] = V::fma(scale, weights[v], to[v]);
        }
      }
    }
    for (int v = 0; v < kSideBySide * W::kRegs; ++v) V::store(y + v * V::kLanes, sums[v]);
  }
};

// Strip is a class like Strips<V, W>.
template <class W, class Strip, int kRows>
class RowAccumulator {
 public:
  static constexpr int64_t kStripBytes = column_offset<W>(Strip::kCols);

  explicit RowAccumulator(const AccumulateArgs& args)
      : args_(args),
        n_strips_((args.col_end - args.col_begin) / Strip::kCols),
        plan_(n_strips_, kStripBytes, kScatteredAheadBytes) {}

  // Adds entries [first, first + kRows) of the list.
  void run(int64_t first) const {
    const std::byte* rows[kRows];
    const std::byte* ahead[kRows];
    const std::byte* after[kRows];
    for (int r = 0; r < kRows; ++r) {
      rows[r] = row_at(first + r);
      ahead[r] = row_at(first + r + plan_.groups * kRows);
      after[r] = row_at(first + r + (plan_.groups + 1) * kRows);
    }
    const float* h = args_.h + first;
    float* y = args_.y + args_.col_begin;
    int64_t s = 0;
    for (; s < n_strips_ - plan_.steps; ++s, y += Strip::kCols) {
      prefetch(ahead, s + plan_.steps);
      Strip::template add<kRows>(rows, s * kStripBytes, h, y);
    }
    for (int64_t step = 0; s < n_strips_; ++s, ++step, y += Strip::kCols) {
      prefetch(after, step);
      Strip::template add<kRows>(rows, s * kStripBytes, h, y);
    }
    Strip::template add_rest<kRows>(rows, s * kStripBytes, h, y, args_.y + args_.col_end - y);
  }

 private:
  const std::byte* row_at(int64_t i) const {
    const int64_t at = i < args_.n_rows ? i : args_.n_rows - 1;
    const int64_t row = args_.rows != nullptr ? args_.rows[at] : at;
    return args_.w + row * args_.row_stride_bytes + column_offset<W>(args_.col_begin);
  }

  // Into the second cache, of which more lines can be on their way than into the first: Zen 4 then
  // reads scattered rows of 6 kB 1.1 to 1.2 times as fast.
  // Inlining is forced, since GCC takes a function that only prefetches for one without effect and
  // drops the call.
  [[gnu::always_inline]] static inline void prefetch(const std::byte* const* from, int64_t strip) {
    const int64_t offset = strip * kStripBytes;
    for (int r = 0; r < kRows; ++r) {
      for (int64_t line = 0; line < kStripBytes; line += kCacheLine) {
        _mm_prefetch(reinterpret_cast<const char*>(from[r] + offset + line), _MM_HINT_T1);
      }
    }
  }

  const AccumulateArgs& args_;
  int64_t n_strips_;
  PrefetchPlan plan_;
};

// Adds the entries from `first` on, as many groups of kRows as there are. Returns the first entry
// that is left.
template <class W, class Strip, int kRows>
int64_t accumulate_groups(const AccumulateArgs& args, int64_t first) {
  const RowAccumulator<W, Strip, kRows> group(args);
  for (; first + kRows <= args.n_rows; first += kRows) group.run(first);
  return first;
}

template <class W, class Strip>
void accumulate_strips(const AccumulateArgs& args) {
  int64_t i = accumulate_groups<W, Strip, kAccumulateRows>(args, 0);
  i = accumulate_groups<W, Strip, 4>(args, i);
  i = accumulate_groups<W, Strip, 2>(args, i);
  accumulate_groups<W, Strip, 1>(args, i);
}

// Types whose groups of 32 columns do not lie at equal distances (Q6_K) go four rows at a time, and
// the same part of the rows that follow in the list is prefetched.
template <class V, class W, int kRows>
int64_t accumulate_chunk_rows(const AccumulateArgs& args, int64_t first) {
  const auto row_at = [&args](int64_t i) {
    const int64_t at = i < args.n_rows ? i : args.n_rows - 1;
    return args.w + (args.rows != nullptr ? args.rows[at] : at) * args.row_stride_bytes;
  };
  for (; first + kRows <= args.n_rows; first += kRows) {
    const std::byte* rows[kRows];
    const std::byte* next[kRows];
    for (int r = 0; r < kRows; ++r) {
      rows[r] = row_at(first + r);
      next[r] = row_at(first + r + kRows);
    }
    for (int64_t col = args.col_begin; col < args.col_end; col += kQuantBlock) {
      float* y = args.y + col;
      typename V::Reg sums[W::kRegs];
      for (int v = 0; v < W::kRegs; ++v) sums[v] = V::load(y + v * V::kLanes);
      for (int r = 0; r < kRows; ++r) {
        const std::byte* ahead = next[r] + col * W::kBytes / W::kElems;
        _mm_prefetch(reinterpret_cast<const char*>(ahead), _MM_HINT_T0);
        typename V::Reg weights[W::kRegs];
        const typename V::Reg d = load_block<W>(rows[r], col, weights);
        const typename V::Reg scale = V::mul(V::set1(args.h[first + r]), d);
        for (int v = 0; v < W::kRegs; ++v) sums[v] = V::fma(scale, weights[v], sums[v]);
      }
      for (int v = 0; v < W::kRegs; ++v) V::store(y + v * V::kLanes, sums[v]);
    }
  }
  return first;
}

template <class V, class W>
void accumulate_chunks(const AccumulateArgs& args) {
  const int64_t left = accumulate_chunk_rows<V, W, 4>(args, 0);
  accumulate_chunk_rows<V, W, 1>(args, left);
}

// Types that are read as octets are decoded into memory first, the octets of kRows rows that lie
// above each other.
template <class V, class W, int kRows>
int64_t accumulate_octet_rows(const AccumulateArgs& args, int64_t first) {
  const auto row_at = [&args](int64_t i) {
    const int64_t at = i < args.n_rows ? i : args.n_rows - 1;
    return args.w + (args.rows != nullptr ? args.rows[at] : at) * args.row_stride_bytes;
  };
  for (; first + kRows <= args.n_rows; first += kRows) {
    for (int64_t col = args.col_begin; col < args.col_end;) {
      const int64_t octet_end = (col / kOctetCols + 1) * kOctetCols;
      const int64_t end = args.col_end < octet_end ? args.col_end : octet_end;
      alignas(64) float weights[kRows][kOctetCols];
      for (int r = 0; r < kRows; ++r) {
        const std::byte* next = row_at(first + r + kRows) + column_offset<W>(col);
        for (int64_t line = 0; line < kOctetCols / W::kElems * W::kBytes; line += kCacheLine) {
          _mm_prefetch(reinterpret_cast<const char*>(next + line), _MM_HINT_T0);
        }
        W::to_floats(row_at(first + r), col, end, weights[r]);
      }
      for (int64_t i = 0; i < end - col; i += V::kLanes) {
        typename V::Reg sum = V::load(args.y + col + i);
        for (int r = 0; r < kRows; ++r) {
          sum = V::fma(V::set1(args.h[first + r]), V::load(weights[r] + i), sum);
        }
        V::store(args.y + col + i, sum);
      }
      col = end;
    }
  }
  return first;
}

template <class V, class W>
void accumulate(const AccumulateArgs& args) {
  if constexpr (reads_octets<W>()) {
    const int64_t left = accumulate_octet_rows<V, W, 4>(args, 0);
    accumulate_octet_rows<V, W, 1>(args, left);
  } else if constexpr (has_super_blocks<W>()) {
    accumulate_chunks<V, W>(args);
  } else {
    accumulate_strips<W, Strips<V, W>>(args);
  }
}

}  // namespace thermocline
