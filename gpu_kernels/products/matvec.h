// Products of weight matrices with one or a few vectors, for decode.
#pragma once

#include <cstdint>
#include <span>

#include "gpu_kernels/base/stream.h"
#include "gpu_kernels/products/activations.h"
#include "gpu_kernels/products/weight_layout.h"

namespace thermocline {

struct GpuMatvecOp {
  GpuMatrix w;                  // (rows, cols)
  const float* bias = nullptr;  // (rows) on the GPU, or null
  float* y = nullptr;           // (n_tokens, rows) f32 on the GPU
};

// y_i[t, r] = W_i[r, :] . x[t] + bias_i[r] for several matrices that read the same x. Up to 8
// tokens are multiplied by weights that are read once. x: n_tokens vectors; quantised weights are
// multiplied by the int8 form. Sums are f32, in an order that depends on the matrix's shape and
// type alone: a token's result is the same bits in every batch and beside every other matrix.
// REQUIRES: x.cols == w.cols. Asynchronous on `stream`; throws Error on launch.
void GpuMatvec(Stream& stream, std::span<const GpuMatvecOp> ops, const GpuVectors& x,
               int64_t n_tokens);

}  // namespace thermocline
