#include "runtime/convert_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "cpu_kernels/kernels.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {

[[noreturn]] void FailNotFinite(const std::string& name, int64_t row, float from, DType dtype) {
  if (std::isfinite(from)) {
    throw Error({.what = fmt::format("tensor {}, row {}: {} does not fit into {}", name, row, from,
                                     dtype_name(dtype)),
                 .hint = "choose BF16 or F32"});
  }
  throw Error({.what = fmt::format("tensor {}, row {}", name, row),
               .expected = "finite weights",
               .found = fmt::format("{}", from),
               .hint = "the model is damaged: download or make it again"});
}

// n_cols values as they were and as they are stored.
WeightError Compare(const float* from, const float* stored, int64_t n_cols) {
  WeightError error;
  for (int64_t c = 0; c < n_cols; ++c) {
    const double difference = static_cast<double>(stored[c]) - from[c];
    error.squared_error += difference * difference;
    error.squared_weights += static_cast<double>(from[c]) * from[c];
    error.max_abs_error = std::max(error.max_abs_error, std::abs(difference));
  }
  return error;
}

}  // namespace

WeightError& WeightError::operator+=(const WeightError& other) {
  squared_error += other.squared_error;
  squared_weights += other.squared_weights;
  max_abs_error = std::max(max_abs_error, other.max_abs_error);
  return *this;
}

double WeightError::relative_rms() const {
  return squared_weights > 0 ? std::sqrt(squared_error / squared_weights) : 0;
}

RowSource RowsOf(const TensorView& view, const int32_t* order) {
  return [view, order](int64_t r, float* row) {
    const int64_t source_row = order == nullptr ? r : order[r];
    cpu_kernels().dequantize_f32(view.dtype, view.row(source_row), 0, view.cols, row);
  };
}

WeightError ConvertRows(const RowSource& source, int64_t begin, int64_t end, int64_t n_cols,
                        DType dtype, const std::string& name, ThreadTeam& team, std::byte* out,
                        int64_t out_stride_bytes) {
  std::vector<WeightError> errors(static_cast<size_t>(end - begin));
  team.Run([&](int thread) {
    std::vector<float> row(static_cast<size_t>(n_cols));
    std::vector<float> stored(row.size());
    const auto [first, last] = Lane{thread, team.n_threads(), nullptr}.Split(end - begin);
    for (int64_t i = first; i < last; ++i) {
      std::byte* target = out + i * out_stride_bytes;
      source(begin + i, row.data());
      quantize_row(dtype, row.data(), n_cols, target);
      cpu_kernels().dequantize_f32(dtype, target, 0, n_cols, stored.data());
      const WeightError error = Compare(row.data(), stored.data(), n_cols);
      if (!std::isfinite(error.squared_error)) {
        for (int64_t c = 0; c < n_cols; ++c) {
          const auto at = static_cast<size_t>(c);
          if (!std::isfinite(stored[at])) FailNotFinite(name, begin + i, row[at], dtype);
        }
      }
      errors[static_cast<size_t>(i)] = error;
    }
  });
  WeightError total;
  for (const WeightError& error : errors) total += error;
  return total;
}

}  // namespace thermocline
