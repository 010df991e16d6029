// Products of weight matrices with whole batches of tokens (prefill), by cuBLAS in f16 with sums in
// f32. Quantised weights are turned into f16 a panel of rows at a time; F16 weights are read where
// they lie, F32 weights are multiplied in f32.
#pragma once

#include <cstddef>
#include <cstdint>

#include "gpu_kernels/base/stream.h"
#include "gpu_kernels/products/gemm.h"
#include "gpu_kernels/products/weight_layout.h"

namespace thermocline {

// The vectors of n tokens: f32, and f16 for weights that are not F32. Where the largest magnitude
// of all is 2^15 or more, the f16 ones are divided by a power of two that brings it below, so that
// none overflows; products are multiplied by it again. Behind cols there are zeros up to
// padded_cols.
struct GpuBatch {
  int64_t cols = 0;
  int64_t padded_cols = 0;      // GpuPaddedCols(cols)
  float* values = nullptr;      // (n, padded_cols)
  uint16_t* halves = nullptr;   // (n, padded_cols) bits of f16
  uint32_t* largest = nullptr;  // the largest magnitude, its f32 bits
};

// GPU memory for a batch, and the batch in it (256-byte aligned).
uint64_t GpuBatchBytes(int64_t cols, int64_t n_tokens);
GpuBatch MakeGpuBatch(void* memory, int64_t cols, int64_t n_tokens);
// x: (n_tokens, out.cols) f32 on the GPU. Asynchronous on `stream`; throws Error on launch.
void GpuPrepareBatch(Stream& stream, const float* x, int64_t n_tokens, const GpuBatch& out);

// Where panels of weights are put.
struct GpuPanel {
  void* data = nullptr;  // 16-byte aligned
  uint64_t n_bytes = 0;  // at least GpuPanelBytes() of the widest matrix; better megabytes
};
// Bytes of one row in f16.
uint64_t GpuPanelBytes(int64_t cols);

// y[t, r] = W[r, :] . x[t] + bias[r]. w: (rows, cols); bias: (rows) or null; y: (n_tokens, rows)
// f32. Asynchronous on `stream`; throws Error.
void GpuBatchRows(Stream& stream, GpuGemm& gemm, const GpuMatrix& w, const float* bias,
                  const GpuBatch& x, int64_t n_tokens, const GpuPanel& panel, float* y);

// y[t, c] = sum over i of x[t, i] * W[i, c]: an FFN's down projection with one row per neuron. w:
// (neurons, cols); x: n_tokens vectors of one element per neuron; y: (n_tokens, cols) f32.
// Asynchronous on `stream`; throws Error.
void GpuBatchColumns(Stream& stream, GpuGemm& gemm, const GpuMatrix& w, const GpuBatch& x,
                     int64_t n_tokens, const GpuPanel& panel, float* y);

}  // namespace thermocline
