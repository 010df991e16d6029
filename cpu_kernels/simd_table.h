// The entries of a KernelTable that are the same templates for every vector unit V. Instantiated
// once per instruction set, in a translation unit compiled for it.
#pragma once

#include "cpu_kernels/accumulate_simd.h"
#include "cpu_kernels/convert_simd.h"
#include "cpu_kernels/float_matvec.h"
#include "cpu_kernels/kernels.h"
#include "cpu_kernels/ops_simd.h"
#include "runtime/core/error.h"

namespace thermocline {

// Accumulate::run<type>(args): accumulate_tokens of a type.
template <class V, class Accumulate>
struct SimdKernels {
  static void matvec_float(DType dtype, const MatvecArgs& args) {
    VisitWeightType(dtype, [&](auto type) {
      if constexpr (kIsQuantised<type()>) {
        CheckFailed(__FILE__, __LINE__, "float dtype");
      } else {
        matvec_many<FloatDot<V, Weights<V, type()>>>(args);
      }
    });
  }

  static void accumulate_rows(DType dtype, const std::byte* w, int64_t row_stride_bytes,
                              const float* h, const int32_t* rows, int64_t n_rows,
                              int64_t col_begin, int64_t col_end, float* y) {
    const AccumulateArgs args = {w, row_stride_bytes, h, rows, n_rows, col_begin, col_end, y};
    VisitWeightType(dtype, [&](auto type) { Accumulate::template run<type()>(args); });
  }

  static void accumulate_tokens(DType dtype, const AccumulateArgs& args) {
    VisitWeightType(dtype, [&](auto type) { Accumulate::template run<type()>(args); });
  }

  template <class To>
  static void dequantize(DType dtype, const std::byte* row, int64_t col_begin, int64_t col_end,
                         typename To::Out* out) {
    VisitWeightType(dtype, [&](auto type) {
      convert_row<V, Weights<V, type()>, To>(row, col_begin, col_end, out);
    });
  }

  template <class To>
  static void narrow(const float* x, int64_t n, uint16_t* out) {
    convert_row<V, Weights<V, DType::kF32>, To>(reinterpret_cast<const std::byte*>(x), 0, n, out);
  }

  static void rope(RopePairing pairing, float* head, int64_t rot_dim, const float* cos,
                   const float* sin) {
    if (pairing == RopePairing::kAdjacent) {
      rope_adjacent_simd<V>(head, rot_dim, cos, sin);
    } else {
      rope_halves_simd<V>(head, rot_dim, cos, sin);
    }
  }

  static void fill(KernelTable* table) {
    table->accumulate_rows = accumulate_rows;
    table->accumulate_channels = accumulate_rows;
    table->accumulate_tokens = accumulate_tokens;
    table->dequantize_f32 = dequantize<ToF32<V>>;
    table->f32_to_f16 = narrow<ToF16<V>>;
    table->f32_to_bf16 = narrow<ToBf16<V>>;
    table->f32_to_q8_0 = quantise_q8_0<V>;
    table->rms_norm = rms_norm_simd<V>;
    table->layer_norm = layer_norm_simd<V>;
    table->rope = rope;
    table->exp_scores = exp_scores_simd<V>;
    table->activate = activate_simd<V>;
    table->drop_below = drop_below_simd<V>;
    table->cut_below = cut_below_simd<V>;
    table->scale = scale_simd<V>;
    table->multiply = multiply_simd<V>;
    table->add = add_simd<V>;
    table->compact_nonzero = compact_nonzero_simd<V>;
    table->sum_words = sum_words_simd<V>;
  }
};

}  // namespace thermocline
