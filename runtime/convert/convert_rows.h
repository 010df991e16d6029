// Converts rows of weights from one type to another, by several threads, and says what the rounding
// cost.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "runtime/core/dtype.h"
#include "runtime/core/tensor_view.h"

namespace thermocline {

// How far stored weights are from their source.
struct WeightError {
  double squared_error = 0;
  double squared_weights = 0;
  double max_abs_error = 0;

  WeightError& operator+=(const WeightError& other);
  double relative_rms() const;  // sqrt(squared_error / squared_weights)
};

// Weights as f32, row by row, whatever type they are stored in.
struct WeightRows {
  std::string path;  // the file and the tensor, for messages
  std::string name;
  int64_t n_rows = 0;
  int64_t n_cols = 0;
  std::function<void(int64_t r, float* row)> read;  // called from several threads
  std::span<const float> importance = {};           // of the columns, for QuantizeRow; or empty
};

// Returns the rows of a tensor. With an order, row r is the view's row order[r].
WeightRows RowsOf(const std::string& path, const std::string& name, const TensorView& view,
                  const int32_t* order = nullptr);

// Stores rows [begin, end) as `dtype`; row r goes to out + (r - begin) * out_stride_bytes. The sums
// do not depend on the number of threads. Throws Error for a weight that is not finite, or that
// becomes so. REQUIRES: n_cols is a multiple of the type's block.
WeightError ConvertRows(const WeightRows& rows, int64_t begin, int64_t end, DType dtype,
                        int n_threads, std::byte* out, int64_t out_stride_bytes);

}  // namespace thermocline
