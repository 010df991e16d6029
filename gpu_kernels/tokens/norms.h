// Norms of rows. Sums are fp32, in an order that depends on the width alone. All memory is memory
// that the GPU sees. Asynchronous on `stream`; throw Error on launch.
#pragma once

#include <cstdint>

#include "gpu_kernels/base/stream.h"
#include "gpu_kernels/products/norm.h"

namespace thermocline {

// y[t] = the norm of x[t], for every row t. x, y: (n_rows, width) f32, row-major, may be the same.
void GpuNormRows(Stream& stream, const GpuNorm& norm, const float* x, int64_t n_rows, int64_t width,
                 float* y);

// x += y, then out = the norm of x as above. x, y, out: (n_rows, width) f32; out is neither.
void GpuAddNormRows(Stream& stream, const GpuNorm& norm, float* x, const float* y, int64_t n_rows,
                    int64_t width, float* out);

// The norm of each of n_parts equal parts of a row by itself (heads). x, y: (n_rows, n_parts,
// width) f32, may be the same. The norm's weight and bias: (width), which all parts share, or where
// they have own ones (n_parts, width).
void GpuNormParts(Stream& stream, const GpuNorm& norm, bool own_weights, const float* x,
                  int64_t n_rows, int64_t n_parts, int64_t width, float* y);

}  // namespace thermocline
