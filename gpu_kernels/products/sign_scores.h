// Guesses which neurons fire from the sign bits of the gate matrix and of its input alone
// (SparseInfer, arXiv:2411.12692). It is the GPU's side of predictor/sign_predictor.h, whose scores
// these equal bit by bit.
#pragma once

#include <cstdint>

#include "gpu_kernels/base/stream.h"

namespace thermocline {

// Words of a row of sign bits. Bit i % 32 of word i / 32 is that of element i, and the bits behind
// the last are 0. A row takes a multiple of 16 bytes, so that a lane reads that much at once.
int64_t GpuSignWords(int64_t cols);

struct GpuSignRows {
  const uint32_t* words = nullptr;  // (rows, GpuSignWords(cols)), 16-byte aligned
  int64_t rows = 0;
  int64_t cols = 0;
  const float* scaled_bias = nullptr;  // (rows) bias over the row's mean magnitude, or null
};

// n tokens' inputs as sign bits.
struct GpuSignInput {
  uint32_t* words = nullptr;      // (n, GpuSignWords(cols)), 16-byte aligned
  float* inverse_mean = nullptr;  // (n) 1 / the mean of |x|
};
uint64_t GpuSignInputBytes(int64_t cols, int64_t n_tokens);
GpuSignInput MakeGpuSignInput(void* memory, int64_t cols, int64_t n_tokens);  // 16-byte aligned

// scores[t, i] = positive minus negative products of row i and x[t], plus scaled_bias[i] / mean
// |x[t]| where there are biases. x: (n_tokens, rows.cols) f32; input: room for them; scores:
// (n_tokens, rows.rows) f32; all on the GPU. Asynchronous on `stream`; throws Error on launch.
void GpuSignScores(Stream& stream, const GpuSignRows& rows, const float* x, int64_t n_tokens,
                   const GpuSignInput& input, float* scores);

}  // namespace thermocline
