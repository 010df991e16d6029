// Conversions with any vector unit V: weights to f32 and bf16, f32 to the 16-bit types, and f32 to
// int8 per block of 32 (the core of VectorForm::kQ8).
#pragma once

#include "cpu_kernels/kernel_args.h"
#include "cpu_kernels/weights_simd.h"

namespace thermocline {

template <class V>
struct ToF32 {
  using Out = float;
  static void store(Out* p, typename V::Reg x) { V::store(p, x); }
  static void store_n(Out* p, typename V::Reg x, int64_t n) { V::store_n(p, x, n); }
};

template <class V>
struct ToF16 {
  using Out = uint16_t;
  static void store(Out* p, typename V::Reg x) { V::store_f16(p, x); }
  static void store_n(Out* p, typename V::Reg x, int64_t n) { V::store_f16_n(p, x, n); }
};

template <class V>
struct ToBf16 {
  using Out = uint16_t;
  static void store(Out* p, typename V::Reg x) { V::store_bf16(p, x); }
  static void store_n(Out* p, typename V::Reg x, int64_t n) { V::store_bf16_n(p, x, n); }
};

// Converts columns [col, col_end) of one row through the store of `To`.
template <class V, class W, class To>
void convert_row(const std::byte* row, int64_t col, int64_t col_end, typename To::Out* out) {
  if constexpr (reads_octets<W>()) {
    constexpr int64_t kAtOnce = kOctetCols;
    while (col < col_end) {
      const int64_t end = col_end - col < kAtOnce ? col_end : col + kAtOnce;
      float values[kAtOnce];
      W::to_floats(row, col, end, values);
      for (int64_t i = 0; i < end - col; i += V::kLanes) To::store(out + i, V::load(values + i));
      out += end - col;
      col = end;
    }
  } else if constexpr (W::kBlocks) {
    for (; col < col_end; col += kQuantBlock, out += kQuantBlock) {
      typename V::Reg weights[W::kRegs];
      load_weights<V, W>(row, col, weights);
      for (int v = 0; v < W::kRegs; ++v) To::store(out + v * V::kLanes, weights[v]);
    }
  } else {
    for (; col + V::kLanes <= col_end; col += V::kLanes, out += V::kLanes) {
      To::store(out, W::load(row + column_offset<W>(col)));
    }
    if (col < col_end) {
      const int64_t left = col_end - col;
      To::store_n(out, W::load_n(row + column_offset<W>(col), left), left);
    }
  }
}

// q = x / scale rounded to nearest even, scale = max|x| / 127. The bits are the same with every V.
// A block that holds NaN or infinity gets the scale NaN and q = 0.
// values: the block, in registers.
template <class V>
[[gnu::always_inline]] inline void quantise_block(const typename V::Reg* values, int8_t* q,
                                                  float* scale) {
  constexpr int kRegs = kQuantBlock / V::kLanes;
  typename V::Reg largest = V::zero();
  bool finite = true;
  const typename V::Reg infinity = V::set1(__builtin_inff());
  for (int v = 0; v < kRegs; ++v) {
    const typename V::Reg magnitude = V::abs(values[v]);
    finite = V::all_less(magnitude, infinity) && finite;
    largest = V::max(largest, magnitude);
  }
  const float top = V::largest(largest);
  const bool zero = !finite || top < kSmallestQ8Block;
  const float d = top / 127.0F;
  *scale = !finite ? __builtin_nanf("") : zero ? 0.0F : d;
  const typename V::Reg inverse = V::set1(zero ? 0.0F : 1.0F / d);
  for (int v = 0; v < kRegs; ++v) {
    const typename V::Reg scaled = finite ? V::mul(values[v], inverse) : V::zero();
    V::store_i8(q + v * V::kLanes, scaled);
  }
}

// Quantises a block of x, or what is left of it when it is quantised.
template <class V>
void quantise_activations(const float* x, Plane plane, int8_t* q, float* scale) {
  constexpr int kRegs = kQuantBlock / V::kLanes;
  typename V::Reg values[kRegs];
  for (int v = 0; v < kRegs; ++v) values[v] = V::load(x + v * V::kLanes);
  quantise_block<V>(values, q, scale);
  if (plane == Plane::kRounded) return;
  const typename V::Reg step = V::set1(*scale);
  for (int v = 0; v < kRegs; ++v) {
    values[v] = V::fnma(step, V::load_i8(q + v * V::kLanes), values[v]);
  }
  quantise_block<V>(values, q, scale);
}

// Stores a row of Q8_0 blocks.
template <class V>
void quantise_q8_0(const float* x, int64_t n, std::byte* out) {
  for (int64_t i = 0; i < n; i += kQuantBlock, out += kTypeBlockBytes<DType::kQ8_0>) {
    float scale;
    quantise_activations<V>(x + i, Plane::kRounded, reinterpret_cast<int8_t*>(out + 2), &scale);
    V::store_f16_n(reinterpret_cast<uint16_t*>(out), V::set1(scale), 1);
  }
}

}  // namespace thermocline
