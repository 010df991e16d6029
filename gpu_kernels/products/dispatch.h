// Turns values known when a kernel is launched into its template arguments; for .cu files.
#pragma once

#include <cstdint>
#include <type_traits>

#include "gpu_kernels/products/activations.h"
#include "gpu_kernels/products/weight_layout.h"
#include "runtime/core/dtype.h"
#include "runtime/core/error.h"

namespace thermocline {

// Tokens that share one reading of the weights.
constexpr int64_t kMaxTokens = 8;

// How many blocks a multiprocessor holds at least, for __launch_bounds__: 80 registers a thread for
// one token, 128 for more. Left to itself, the compiler saves registers until loads of weights wait
// for each other, or spills.
constexpr int MinBlocks(int n_tokens, int block_threads) {
  constexpr int kRegisters = 65536;
  return kRegisters / (n_tokens == 1 ? 80 : 128) / block_threads;
}

template <auto kValue>
using Constant = std::integral_constant<decltype(kValue), kValue>;

// Calls call(WeightType<T>()) for the T that the type is to kernels.
template <typename Call>
void VisitGpuType(DType dtype, const Call& call) {
  VisitWeightType(GpuDType(dtype), [&](auto type) {
    if constexpr (GpuDType(type()) == type()) {
      call(type);
    } else {
      CHECK(false);
    }
  });
}

// Calls call(WeightType<T>(), Constant<tokens>) for the T that the type is to kernels, and the
// least of 1, 2, 4 and 8 tokens that is enough.
template <typename Call>
void WithTypeAndTokens(DType dtype, int64_t n_tokens, const Call& call) {
  CHECK(n_tokens >= 1 && n_tokens <= kMaxTokens);
  VisitGpuType(dtype, [&](auto type) {
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
