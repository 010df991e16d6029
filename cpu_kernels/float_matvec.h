// Dot products of F32, F16 and BF16 rows with an f32 vector, for any vector unit V.
#pragma once

#include "cpu_kernels/matvec_rows.h"
#include "cpu_kernels/weights_simd.h"

namespace thermocline {

template <class V, class W>
class FloatDot {
 public:
  using Reg = typename V::Reg;
  static constexpr int kRowGroup = V::kRowGroup;
  static constexpr int kStepCols = 32;
  static constexpr int kStepBytes = kStepCols * W::kBytes;

  explicit FloatDot(const MatvecArgs& args)
      : x_(static_cast<const float*>(args.x)), n_cols_(args.n_cols) {}

  int64_t full_steps() const { return n_cols_ / kStepCols; }

  template <int kRows>
  void step(const std::byte* const* rows, int64_t t, Reg (*sums)[2]) const {
    for (int v = 0; v < kStepCols / V::kLanes; ++v) {
      const int64_t col = t * kStepCols + v * V::kLanes;
      const Reg x = V::load(x_ + col);
      for (int r = 0; r < kRows; ++r) {
        sums[r][v % 2] = V::fma(W::load(rows[r] + col * W::kBytes), x, sums[r][v % 2]);
      }
    }
  }

  template <int kRows>
  void tail(const std::byte* const* rows, Reg (*sums)[2]) const {
    for (int64_t col = full_steps() * kStepCols; col < n_cols_; col += V::kLanes) {
      const int64_t left = n_cols_ - col < V::kLanes ? n_cols_ - col : V::kLanes;
      const Reg x = V::load_n(x_ + col, left);
      for (int r = 0; r < kRows; ++r) {
        sums[r][0] = V::fma(W::load_n(rows[r] + col * W::kBytes, left), x, sums[r][0]);
      }
    }
  }

  static float total(Reg sum0, Reg sum1) { return V::sum(V::add(sum0, sum1)); }

 private:
  const float* x_;
  int64_t n_cols_;
};

}  // namespace thermocline
