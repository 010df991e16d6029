// Rows of weights as panels of plain numbers.
#pragma once

#include <cstdint>

#include "gpu_kernels/base/stream.h"
#include "gpu_kernels/products/weight_layout.h"

namespace thermocline {

// out[r, c] = w[first_row + r, c] for n_rows rows; padding columns are zeros. out: (n_rows,
// GpuPaddedCols(w.cols)) on the GPU, 16-byte aligned, as f32, exactly (of Q4_1 rounded once), or as
// bits of f16, rounded to nearest even (BF16 weights below 2^-24 become 0). Asynchronous on
// `stream`; throws Error on launch.
void GpuDequantise(Stream& stream, const GpuMatrix& w, int64_t first_row, int64_t n_rows,
                   float* out);
void GpuDequantise(Stream& stream, const GpuMatrix& w, int64_t first_row, int64_t n_rows,
                   uint16_t* out);

}  // namespace thermocline
