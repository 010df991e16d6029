// RMS normalisation (arXiv:1910.07467).
#pragma once

#include <cstdint>

#include "gpu_kernels/base/stream.h"

namespace thermocline {

// y[t, i] = x[t, i] * weight[i] / sqrt(mean over i of x[t, i]^2 + epsilon), for every token t.
// x, y: (n_tokens, width) f32, row-major, may be the same. weight: (width) f32. All in memory the
// GPU sees. Sums are fp32, in an order that depends on width alone. Asynchronous on `stream`;
// throws Error on launch.
void GpuRmsNorm(Stream& stream, float* y, const float* x, const float* weight, float epsilon,
                int64_t n_tokens, int64_t width);

// x += y, then out = the norm of x as above. x, y, out: (n_tokens, width); out is neither.
void GpuAddRmsNorm(Stream& stream, float* x, const float* y, const float* weight, float epsilon,
                   int64_t n_tokens, int64_t width, float* out);

}  // namespace thermocline
