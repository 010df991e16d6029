// Steps that go element by element.
#pragma once

#include <cstdint>

#include "gpu_kernels/base/stream.h"

namespace thermocline {

// y[i] += x[i]. y, x: (n) f32 in memory the GPU sees, aligned to 4 bytes. Asynchronous on `stream`;
// throws Error on launch.
void GpuAdd(Stream& stream, float* y, const float* x, int64_t n);

// x[t, i] += bias[i], for every row t. x: (n_rows, width) f32; bias: (width) f32. As above.
void GpuAddBias(Stream& stream, float* x, const float* bias, int64_t n_rows, int64_t width);

// x[i] = scale x[i], and with a cap c (not 0) then c tanh(x[i] / c). With a scale of 0 it is 0,
// also where it was no number. x: (n) f32. As above.
void GpuScale(Stream& stream, float* x, float scale, float soft_cap, int64_t n);

}  // namespace thermocline
