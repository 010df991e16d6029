// Rows of a file's matrix in the form in which they lie on the GPU (gpu_kernels/weight_layout.h):
// what is stored there once, and what is streamed there batch by batch, is packed by the same code.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/core/tensor_view.h"

namespace thermocline {

// The type that a matrix has on the GPU: its own where there are kernels for it.
DType GpuStoredType(DType dtype);

// A row of `source`, in host memory, in that type; where it is another one than the file's, in
// *converted.
const std::byte* GpuStoredRow(const TensorView& source, int64_t row,
                              std::vector<std::byte>* converted);

// Packs a row of `source` in that type. out: GpuRowBytes(GpuStoredType(source.dtype), source.cols)
// bytes in host memory. Any number of threads may pack rows of one matrix, each with a `converted`
// of its own, which is kept from row to row.
void PackGpuStoredRow(const TensorView& source, int64_t row, std::vector<std::byte>* converted,
                      std::byte* out);

}  // namespace thermocline
