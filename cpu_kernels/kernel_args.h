// The arguments of the two big kernels as plain structs, for the code between the table's entries
// and the loops of one instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu_kernels/gemm.h"

namespace thermocline {

// How far apart the vectors of several tokens, of n_bytes (whole cache lines) each, should lie. Of
// those that are longer than 4 kB 9 lines more than a multiple of that: a pass goes over the same
// columns of up to eight vectors at once, and a multiple of 4 kB apart they would all want the same
// few lines of the first cache (of 48 kB: products of 8 tokens then took 1.4 to 1.8 times as long).
inline constexpr int64_t TokenStride(int64_t n_bytes) {
  constexpr int64_t kPage = 4096;
  constexpr int64_t kOff = 9 * 64;
  if (n_bytes <= kPage) return n_bytes;
  return (n_bytes - kOff + kPage - 1) / kPage * kPage + kOff;
}

// What of x is rounded to int8: x, or what is left when the first is taken away.
enum class Plane : uint8_t { kRounded, kRest };

struct MatvecArgs {
  const std::byte* w;
  int64_t row_stride_bytes;
  int64_t n_cols;
  const void* x;
  const int32_t* rows;
  int64_t begin;
  int64_t end;
  float* out;
  // Of several tokens: token t's vector lies at x + t * x_stride_bytes, its results at
  // out + t * out_stride.
  int64_t n_tokens = 1;
  int64_t x_stride_bytes = 0;
  int64_t out_stride = 0;
};

struct AccumulateArgs {
  const std::byte* w;
  int64_t row_stride_bytes;
  const float* h;
  const int32_t* rows;
  int64_t n_rows;
  int64_t col_begin;
  int64_t col_end;
  float* y;
  // Of several tokens: token t's factors lie at h + t * h_stride, its sums at y + t * y_stride.
  int64_t n_tokens = 1;
  int64_t h_stride = 0;
  int64_t y_stride = 0;
};

// Arguments of gemm.h's prepare and of its two packs ([begin, end) of k, or of the columns).
struct GemmPrepareArgs {
  const float* x;
  int64_t n_tokens;
  int64_t k;
  int64_t tile_begin;
  int64_t tile_end;
  std::byte* out;
  Plane plane = Plane::kRounded;
};

struct GemmPackArgs {
  const std::byte* w;
  int64_t row_stride_bytes;
  int64_t n_rows;
  int64_t begin;
  int64_t end;
  RowsAhead ahead;
  std::byte* panels;
};

// Types whose rows are multiplied with activations in int8 (VectorForm::kQ8).
[[gnu::always_inline]] inline bool has_quantised_dot(DType weights) {
  return VisitWeightType(weights, [](auto type) { return kIsQuantised<type()>; });
}

// Types whose rows AVX2 without VNNI multiplies in integers over a whole block of 256
// (VectorForm::kQ8Super), always inlined since every instruction set has it.
[[gnu::always_inline]] constexpr bool takes_super_vector(DType weights) {
  return weights == DType::kQ4_K || weights == DType::kQ5_K || weights == DType::kQ6_K ||
         weights == DType::kIQ4_XS;
}

// In which form panels of a quantised type are multiplied in int8, always inlined since every
// instruction set has it; nibbles fit 16-bit sums, and whole bytes have none of their own.
[[gnu::always_inline]] constexpr GemmForm integer_form(DType weights) {
  switch (weights) {
    case DType::kQ8_0:
    case DType::kIQ4_NL:
    case DType::kIQ4_XS:
      return GemmForm::kQ8;
    case DType::kQ4_0:
    case DType::kQ4_1:
    case DType::kQ4_K:
    case DType::kTQ2_0:
    case DType::kS2_0:
    case DType::kS3_0:
      return GemmForm::kQ8Offset;
    case DType::kQ5_0:
    case DType::kQ5_1:
    case DType::kQ5_K:
    case DType::kMXFP4:
      return GemmForm::kQ8Wide;
    default:
      return GemmForm::kQ8Halves;
  }
}

// The same with AVX2 alone, where integers of six bits, a scale for each 16 of them, have a form.
[[gnu::always_inline]] constexpr GemmForm avx2_form(DType weights) {
  const bool centred = weights == DType::kQ6_K || weights == DType::kQ3_K;
  return centred ? GemmForm::kQ8Centred : integer_form(weights);
}

// A block of activations whose largest magnitude is below this is stored as zeros: its scale's
// reciprocal would leave the range of f32.
inline constexpr float kSmallestQ8Block = 0x1p-100F;

}  // namespace thermocline
