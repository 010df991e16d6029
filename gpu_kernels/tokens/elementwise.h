// Steps that go element by element.
#pragma once

#include <cstdint>

#include "gpu_kernels/base/stream.h"
#include "gpu_kernels/products/activation.h"

namespace thermocline {

// y[i] += x[i]. y, x: (n) f32 in memory the GPU sees, aligned to 4 bytes. Asynchronous on `stream`;
// throws Error on launch.
void GpuAdd(Stream& stream, float* y, const float* x, int64_t n);

// x[t, i] += bias[i], for every row t. x: (n_rows, width) f32; bias: (width) f32. As above.
void GpuAddBias(Stream& stream, float* x, const float* bias, int64_t n_rows, int64_t width);

// x[i] = scale x[i], and with a cap c (not 0) then c tanh(x[i] / c). With a scale of 0 it is 0,
// also where it was no number. x: (n) f32. As above.
void GpuScale(Stream& stream, float* x, float scale, float soft_cap, int64_t n);

// out[t, i] = x[t, i] * by[i], for every row t. x, out: (n_rows, width) f32, may be the same; by:
// (width) f32. As above.
void GpuMultiplyRows(Stream& stream, const float* x, const float* by, int64_t n_rows, int64_t width,
                     float* out);

// x[t, i] = act(x[t, i]) * by[t * by_stride + i], for every row t. x: (n_rows, width) f32; by: rows
// of width f32, by_stride apart. As above.
void GpuActivateMultiplyRows(Stream& stream, const GpuActivation& activation, float* x,
                             const float* by, int64_t by_stride, int64_t n_rows, int64_t width);

}  // namespace thermocline
