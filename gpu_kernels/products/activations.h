// Vectors of activations in the form in which products with weights read them
// (gpu_kernels/products/matvec.h).
#pragma once

#include <cstdint>

#include "gpu_kernels/base/stream.h"
#include "gpu_kernels/products/norm.h"

namespace thermocline {

// The vectors of n tokens, as f32 for F32, F16 and BF16 weights and as int8 for quantised ones.
// Block b of 32 elements of token t is scales[t, b] * quants[t, 32 b ... 32 b + 31], with scale =
// max|x| / 127 and quants rounded to nearest even. A block with NaN or infinity has a NaN scale.
// Behind cols there are zeros up to padded_cols.
struct GpuVectors {
  int64_t cols = 0;
  int64_t padded_cols = 0;   // GpuPaddedCols(cols)
  float* values = nullptr;   // (n, padded_cols)
  int8_t* quants = nullptr;  // (n, padded_cols)
  float* scales = nullptr;   // (n, padded_cols / 32)
};

// GPU memory for n_tokens vectors of cols elements, and the vectors in it (256-byte aligned).
uint64_t GpuVectorsBytes(int64_t cols, int64_t n_tokens);
GpuVectors MakeGpuVectors(void* memory, int64_t cols, int64_t n_tokens);

// What is done to x before it is stored.
enum class PrepareOp : uint8_t { kCopy, kRelu };

// out[t] = x[t], or relu(x[t]) (a predictor's hidden layer). x: (n_tokens, out.cols) f32 on the
// GPU. Asynchronous on `stream`; throws Error on launch.
void GpuPrepare(Stream& stream, const float* x, int64_t n_tokens, PrepareOp op,
                const GpuVectors& out);

// A norm whose result is wanted as f32 and as the input of products.
struct GpuNormOp {
  GpuNorm norm;
  float* normed = nullptr;  // (n_tokens, cols) f32 on the GPU
};

// op.normed = the norm of x as GpuNormRows makes it (gpu_kernels/tokens/norms.h), and out = what
// GpuPrepare makes of that: the same bits in one launch. x: (n_tokens, out.cols) f32 on the GPU,
// may be op.normed. Asynchronous on `stream`; throws Error on launch.
void GpuNormPrepare(Stream& stream, const float* x, const GpuNormOp& op, int64_t n_tokens,
                    const GpuVectors& out);
// Adds y to x first (x += y), then does what GpuNormPrepare does; x is not op.normed.
void GpuAddNormPrepare(Stream& stream, float* x, const float* y, const GpuNormOp& op,
                       int64_t n_tokens, const GpuVectors& out);

}  // namespace thermocline
