// A matrix of weights in somebody else's memory: rows of `cols` elements, row r at data + r *
// stride.
#pragma once

#include <cstddef>
#include <cstdint>

#include "runtime/core/dtype.h"

namespace thermocline {

struct TensorView {
  const std::byte* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t row_stride_bytes =
      0;  // >= RowBytes(dtype, cols); larger where rows of two tensors alternate

  bool empty() const { return data == nullptr; }
  const std::byte* row(int64_t r) const { return data + r * row_stride_bytes; }
  // Returns the bytes of the weights themselves (not of the gaps between strided rows).
  uint64_t weight_bytes() const { return static_cast<uint64_t>(rows * RowBytes(dtype, cols)); }

  // Returns rows [begin, end) as a view.
  TensorView SliceRows(int64_t begin, int64_t end) const {
    return {row(begin), dtype, end - begin, cols, row_stride_bytes};
  }
};

inline TensorView DenseView(const void* data, DType dtype, int64_t rows, int64_t cols) {
  return {static_cast<const std::byte*>(data), dtype, rows, cols, RowBytes(dtype, cols)};
}

}  // namespace thermocline
