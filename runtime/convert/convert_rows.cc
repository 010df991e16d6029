#include "runtime/convert/convert_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "cpu_kernels/kernels.h"
#include "runtime/core/error.h"
#include "runtime/threads/parallel_for.h"

namespace thermocline {
namespace {

constexpr int64_t kRowsAtOnce = 16;  // converted by one thread

// Says which weight of a row is to blame when its stored form is not finite. In a quantised block
// one bad weight spoils its neighbours, so those of the source are looked at first.
[[noreturn]] void FailNotFinite(const WeightRows& rows, int64_t r, const std::vector<float>& row,
                                const std::vector<float>& stored, DType dtype) {
  const std::string where = fmt::format("tensor {}, row {}", Printable(rows.name), r);
  for (const float weight : row) {
    if (std::isfinite(weight)) continue;
    throw Error({.path = rows.path,
                 .what = where,
                 .expected = "finite weights",
                 .found = fmt::format("{}", weight),
                 .hint = "the model is damaged: download or make it again"});
  }
  const auto bad = std::find_if(stored.begin(), stored.end(),
                                [](float weight) { return !std::isfinite(weight); });
  const float weight = bad == stored.end() ? 0 : row[static_cast<size_t>(bad - stored.begin())];
  throw Error({.path = rows.path,
               .what = fmt::format("{}: {} does not fit into {}", where, weight, DTypeName(dtype)),
               .hint = "choose BF16 or F32",
               .settings = {{Setting::kWeightType}}});
}

// Compares n_cols values as they were with what is stored of them.
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

WeightRows RowsOf(const std::string& path, const std::string& name, const TensorView& view,
                  const int32_t* order) {
  const auto read = [view, order](int64_t r, float* row) {
    const int64_t source_row = order == nullptr ? r : order[r];
    CpuKernels().dequantize_f32(view.dtype, view.row(source_row), 0, view.cols, row);
  };
  return {path, name, view.rows, view.cols, read, {}};
}

WeightError ConvertRows(const WeightRows& rows, int64_t begin, int64_t end, DType dtype,
                        int n_threads, std::byte* out, int64_t out_stride_bytes) {
  std::vector<WeightError> errors(static_cast<size_t>(end - begin));
  ParallelFor(end - begin, kRowsAtOnce, n_threads, [&](int, int64_t first, int64_t last) {
    std::vector<float> row(static_cast<size_t>(rows.n_cols));
    std::vector<float> stored(row.size());
    for (int64_t i = first; i < last; ++i) {
      std::byte* target = out + i * out_stride_bytes;
      rows.read(begin + i, row.data());
      QuantizeRow(dtype, row.data(), rows.n_cols, target, rows.importance);
      CpuKernels().dequantize_f32(dtype, target, 0, rows.n_cols, stored.data());
      const WeightError error = Compare(row.data(), stored.data(), rows.n_cols);
      if (!std::isfinite(error.squared_error)) FailNotFinite(rows, begin + i, row, stored, dtype);
      errors[static_cast<size_t>(i)] = error;
    }
  });
  WeightError total;
  for (const WeightError& error : errors) total += error;
  return total;
}

}  // namespace thermocline
