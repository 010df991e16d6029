// y += sum_i h_i W[i, :] for any vector unit V and weight type W (weights_simd.h). Eight rows of
// the list at a time: a strip of y is loaded once, takes eight fused multiply-adds per element in
// the order of the list, and is stored; y (d_model f32) stays in L1. Meanwhile the same strip of
// the next eight rows is prefetched. For quantised rows h_i * d is one f32 scale per block.
#pragma once

#include <immintrin.h>

#include "cpu_kernels/kernel_args.h"
#include "cpu_kernels/weights_simd.h"

namespace thermocline {

inline constexpr int kAccumulateRows = 8;

template <class V, class W, int kRows>
class RowAccumulator {
 public:
  using Reg = typename V::Reg;
  static constexpr int kVectors = V::kAccumulateStrip;  // float types: registers of y per strip
  static constexpr int64_t kStripCols = W::kBlocks ? kQuantBlock : kVectors * V::kLanes;
  static constexpr int64_t kStripBytes = W::kBlocks ? W::kBytes : kStripCols * W::kBytes;

  RowAccumulator(const AccumulateArgs& args, int64_t first) : y_(args.y) {
    for (int r = 0; r < kRows; ++r) {
      const int64_t ahead = first + kRows + r < args.n_rows ? first + kRows + r : args.n_rows - 1;
      rows_[r] = row_at(args, first + r);
      next_[r] = row_at(args, ahead);
      h_[r] = V::set1(args.h[first + r]);
    }
  }

  void run(int64_t col, int64_t col_end) const {
    for (; col + kStripCols <= col_end; col += kStripCols) {
      const int64_t offset = column_offset<W>(col);
      for (int r = 0; r < kRows; ++r) {
        for (int64_t line = 0; line < kStripBytes; line += 64) {
          _mm_prefetch(reinterpret_cast<const char*>(next_[r] + offset + line), _MM_HINT_T0);
        }
      }
      strip(col, offset);
    }
    if constexpr (!W::kBlocks) tail(col, col_end);
  }

 private:
  static const std::byte* row_at(const AccumulateArgs& args, int64_t i) {
    return args.w + (args.rows != nullptr ? args.rows[i] : i) * args.row_stride_bytes;
  }

  void strip(int64_t col, int64_t offset) const {
    constexpr int kRegs = static_cast<int>(kStripCols / V::kLanes);
    Reg y[kRegs];
    for (int v = 0; v < kRegs; ++v) y[v] = V::load(y_ + col + v * V::kLanes);
    for (int r = 0; r < kRows; ++r) {
      const std::byte* w = rows_[r] + offset;
      if constexpr (W::kBlocks) {
        const Reg scale = V::mul(h_[r], W::scale(w));
        Reg weights[kRegs];
        W::integers(w, weights);
        for (int v = 0; v < kRegs; ++v) y[v] = V::fma(scale, weights[v], y[v]);
      } else {
        for (int v = 0; v < kRegs; ++v) {
          y[v] = V::fma(h_[r], W::load(w + v * V::kLanes * W::kBytes), y[v]);
        }
      }
    }
    for (int v = 0; v < kRegs; ++v) V::store(y_ + col + v * V::kLanes, y[v]);
  }

  void tail(int64_t col, int64_t col_end) const {
    for (; col < col_end; col += V::kLanes) {
      const int64_t left = col_end - col < V::kLanes ? col_end - col : V::kLanes;
      Reg y = V::load_n(y_ + col, left);
      for (int r = 0; r < kRows; ++r) {
        y = V::fma(h_[r], W::load_n(rows_[r] + col * W::kBytes, left), y);
      }
      V::store_n(y_ + col, y, left);
    }
  }

  float* y_;
  const std::byte* rows_[kRows];
  const std::byte* next_[kRows];
  Reg h_[kRows];
};

template <class V, class W>
void accumulate(const AccumulateArgs& args) {
  int64_t i = 0;
  for (; i + kAccumulateRows <= args.n_rows; i += kAccumulateRows) {
    RowAccumulator<V, W, kAccumulateRows>(args, i).run(args.col_begin, args.col_end);
  }
  for (; i < args.n_rows; ++i) {
    RowAccumulator<V, W, 1>(args, i).run(args.col_begin, args.col_end);
  }
}

}  // namespace thermocline
