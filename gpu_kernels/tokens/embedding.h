// Token embeddings, and those of positions.
#pragma once

#include <cstdint>

#include "gpu_kernels/base/pass_inputs.h"
#include "gpu_kernels/base/stream.h"
#include "gpu_kernels/products/weight_layout.h"

namespace thermocline {

// x[t, i] = table[id of row t, i], for every row of the pass: decoded exactly (a quantised weight
// is its scale times its quant plus its offset, rounded once). table: in memory the GPU sees. x:
// (n_rows, table.cols) f32. Asynchronous on `stream`; throws Error on launch. REQUIRES: every id is
// a row.
void GpuEmbed(Stream& stream, const GpuMatrix& table, const GpuPass& pass, float* x);

// x[t, i] += table[position of row t + offset, i]: what else is as above. REQUIRES: every position
// + offset is a row.
void GpuAddPositions(Stream& stream, const GpuMatrix& table, const GpuPass& pass, int64_t offset,
                     float* x);

// x[t, i] += scale * table[id of row t, i]: what else is as for GpuEmbed.
void GpuAddTableRows(Stream& stream, const GpuMatrix& table, const GpuPass& pass, float scale,
                     float* x);

}  // namespace thermocline
