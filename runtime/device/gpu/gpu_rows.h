// What ops say, as kernels of the GPU take it: rows of a file's matrix in the form in which they
// lie there (gpu_kernels/products/weight_layout.h; what is stored there once, and what is streamed
// there batch by batch, is packed by the same code), matrices and activations.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "gpu_kernels/products/activation.h"
#include "gpu_kernels/products/weight_layout.h"
#include "runtime/core/tensor_view.h"
#include "runtime/device/ops.h"

namespace thermocline {

// Packs a row of `source`, in host memory. out: GpuRowBytes(source.dtype, source.cols) bytes, in
// host memory, too. Any number of threads may pack rows of one matrix.
inline void PackGpuRow(const TensorView& source, int64_t row, std::byte* out) {
  PackGpuRows(source.dtype, source.row(row), source.row_stride_bytes, 1, source.cols, out);
}

// What becomes of an FFN's gates and ups.
inline GpuActivation ActivationOf(const FfnOp& op) {
  const bool relu = op.activation == Activation::kRelu;
  return {op.activation, relu ? std::max(0.0F, op.activation_threshold) : 0, op.relu_up};
}

// A matrix in the GPU's memory as its kernels take it.
inline GpuMatrix MatrixOf(const TensorView& w) {
  return {w.dtype, w.rows, w.cols, w.row_stride_bytes, w.data};
}

}  // namespace thermocline
