// Rows of a file's matrix in the form in which they lie on the GPU
// (gpu_kernels/products/weight_layout.h): what is stored there once, and what is streamed there
// batch by batch, is packed by the same code.
#pragma once

#include <cstddef>
#include <cstdint>

#include "gpu_kernels/products/weight_layout.h"
#include "runtime/core/tensor_view.h"

namespace thermocline {

// Packs a row of `source`, in host memory. out: GpuRowBytes(source.dtype, source.cols) bytes, in
// host memory, too. Any number of threads may pack rows of one matrix.
inline void PackGpuRow(const TensorView& source, int64_t row, std::byte* out) {
  PackGpuRows(source.dtype, source.row(row), source.row_stride_bytes, 1, source.cols, out);
}

// A matrix in the GPU's memory as its kernels take it.
inline GpuMatrix MatrixOf(const TensorView& w) {
  return {w.dtype, w.rows, w.cols, w.row_stride_bytes, w.data};
}

}  // namespace thermocline
