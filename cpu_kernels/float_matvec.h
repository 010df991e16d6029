// Dot products of F32, F16 and BF16 rows with an f32 vector, for any vector unit V.
#pragma once

#include "cpu_kernels/matvec_many.h"
#include "cpu_kernels/rows_and_tokens.h"
#include "cpu_kernels/weights_simd.h"

namespace thermocline {

template <class V, class W>
class FloatDot {
 public:
  using Reg = typename V::Reg;
  static constexpr int kRowGroup = V::kRowGroup;
  static constexpr int kStepCols = 32;
  static constexpr int kStepBytes = kStepCols * W::kBytes;
  static constexpr int64_t kVectorStepBytes = kStepCols * 4;
  static constexpr int64_t kMostTokens = V::kLanes == 16 ? 8 : 4;
  template <int kTokens>
  static constexpr int kManyRows = kTokens <= 2 ? 2 : 1;

  explicit FloatDot(const MatvecArgs& args)
      : x_(static_cast<const float*>(args.x)),
        x_stride_(args.x_stride_bytes / static_cast<int64_t>(sizeof(float))),
        n_cols_(args.n_cols) {}

  int64_t full_steps() const { return n_cols_ / kStepCols; }

  template <int kRows, int kTokens = 1>
  void step(const std::byte* const* rows, int64_t t, Reg (*sums)[2]) const {
    for (int v = 0; v < kStepCols / V::kLanes; ++v) {
      const int64_t col = t * kStepCols + v * V::kLanes;
      each_row_and_token<kRows, kTokens>(
          [&](int token)
              __attribute__((always_inline)) { return V::load(x_ + token * x_stride_ + col); },
          [&](int r) __attribute__((always_inline)) { return W::load(rows[r] + col * W::kBytes); },
          [&](int r, int token, Reg w, Reg x) __attribute__((always_inline)) {
            Reg& sum = sums[r * kTokens + token][v % 2];
            sum = V::fma(w, x, sum);
          });
    }
  }

  template <int kRows, int kTokens = 1>
  void tail(const std::byte* const* rows, Reg (*sums)[2]) const {
    for (int64_t col = full_steps() * kStepCols; col < n_cols_; col += V::kLanes) {
      const int64_t left = n_cols_ - col < V::kLanes ? n_cols_ - col : V::kLanes;
      each_row_and_token<kRows, kTokens>(
          [&](int token) __attribute__((always_inline)) {
            return V::load_n(x_ + token * x_stride_ + col, left);
          },
          [&](int r)
              __attribute__((always_inline)) { return W::load_n(rows[r] + col * W::kBytes, left); },
          [&](int r, int token, Reg w, Reg x) __attribute__((always_inline)) {
            Reg& sum = sums[r * kTokens + token][0];
            sum = V::fma(w, x, sum);
          });
    }
  }

  static float total(Reg sum0, Reg sum1) { return V::sum(V::add(sum0, sum1)); }

 private:
  const float* x_;
  int64_t x_stride_;
  int64_t n_cols_;
};

}  // namespace thermocline
