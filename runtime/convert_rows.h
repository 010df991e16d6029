// Rows of weights from one type to another, by several threads, with what the rounding cost.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "runtime/core/dtype.h"
#include "runtime/core/tensor_view.h"
#include "runtime/team.h"

namespace thermocline {

// How far stored weights are from their source.
struct WeightError {
  double squared_error = 0;
  double squared_weights = 0;
  double max_abs_error = 0;

  WeightError& operator+=(const WeightError& other);
  double relative_rms() const;  // sqrt(squared_error / squared_weights)
};

// Fills `row` (n_cols f32) with row r of the source. Called from several threads.
using RowSource = std::function<void(int64_t r, float* row)>;

// The rows of a view; with an order, row r is the view's row order[r].
RowSource RowsOf(const TensorView& view, const int32_t* order = nullptr);

// Stores rows [begin, end) of the source as `dtype`; row r at out + (r - begin) * out_stride_bytes.
// The sums do not depend on the number of threads. Throws Error for a weight that is not finite, or
// that becomes so; `name` is for that message. REQUIRES: n_cols is a multiple of the type's block.
WeightError ConvertRows(const RowSource& source, int64_t begin, int64_t end, int64_t n_cols,
                        DType dtype, const std::string& name, ThreadTeam& team, std::byte* out,
                        int64_t out_stride_bytes);

}  // namespace thermocline
