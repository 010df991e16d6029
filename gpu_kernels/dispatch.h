// From values known when a kernel is launched to its template arguments; for .cu files.
#pragma once

#include <cstdint>
#include <type_traits>

#include "gpu_kernels/activations.h"
#include "runtime/core/dtype.h"
#include "runtime/core/error.h"

namespace thermocline {

constexpr DType kWeightTypes[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0,
                                  DType::kQ4_0};
// Tokens that share one reading of the weights.
constexpr int64_t kMaxTokens = 8;

template <auto kValue>
using Constant = std::integral_constant<decltype(kValue), kValue>;

// Calls call(Constant<dtype>).
template <typename Call>
void WithType(DType dtype, const Call& call) {
  switch (dtype) {
    case DType::kF32:
      return call(Constant<DType::kF32>());
    case DType::kF16:
      return call(Constant<DType::kF16>());
    case DType::kBF16:
      return call(Constant<DType::kBF16>());
    case DType::kQ8_0:
      return call(Constant<DType::kQ8_0>());
    case DType::kQ4_0:
      return call(Constant<DType::kQ4_0>());
    default:
      CHECK(false);
  }
}

// Calls call(Constant<dtype>, Constant<tokens>), the least of 1, 2, 4 and 8 tokens that is enough.
template <typename Call>
void WithTypeAndTokens(DType dtype, int64_t n_tokens, const Call& call) {
  CHECK(n_tokens >= 1 && n_tokens <= kMaxTokens);
  WithType(dtype, [&](auto type) {
    if (n_tokens == 1) {
      call(type, Constant<1>());
    } else if (n_tokens == 2) {
      call(type, Constant<2>());
    } else if (n_tokens <= 4) {
      call(type, Constant<4>());
    } else {
      call(type, Constant<8>());
    }
  });
}

// The vectors from token `first` on.
inline GpuVectors VectorsFrom(GpuVectors x, int64_t first) {
  x.values += first * x.padded_cols;
  x.quants += first * x.padded_cols;
  x.scales += first * x.padded_cols / kQuantBlock;
  return x;
}

}  // namespace thermocline
