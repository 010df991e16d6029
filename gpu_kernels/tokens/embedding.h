// Token embeddings.
#pragma once

#include <cstdint>

#include "gpu_kernels/base/pass_inputs.h"
#include "gpu_kernels/base/stream.h"
#include "runtime/core/dtype.h"

namespace thermocline {

// A matrix as a GGUF file stores it (runtime/core/dtype.h), in memory the GPU sees: row r at
// data + r * row_stride_bytes, both multiples of 4 for F32 and of 2 otherwise.
struct GpuTable {
  DType dtype = DType::kF32;
  const void* data = nullptr;
  int64_t row_stride_bytes = 0;
};

// x[t, i] = table[id of row t, i], for every row of the pass: decoded exactly (a quantised weight
// is its scale times its quant plus its offset, rounded once). table: width columns, a multiple of
// 32 for quantised types (256 for Q6_K). x: (n_rows, width) f32. Asynchronous on `stream`; throws
// Error on launch. REQUIRES: every id is a row.
void GpuEmbed(Stream& stream, const GpuTable& table, const GpuPass& pass, int64_t width, float* x);

}  // namespace thermocline
