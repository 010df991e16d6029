#include "profiler/predictors/predictor_store.h"

#include <algorithm>
#include <cmath>

#include "cpu_kernels/kernels.h"

namespace thermocline {
namespace {

std::vector<std::byte> QuantizeRows(const std::vector<float>& w, int64_t cols, DType dtype) {
  const int64_t rows = static_cast<int64_t>(w.size()) / cols;
  const int64_t row_bytes = RowBytes(dtype, cols);
  std::vector<std::byte> out(static_cast<size_t>(rows * row_bytes));
  for (int64_t r = 0; r < rows; ++r) {
    QuantizeRow(dtype, w.data() + r * cols, cols, out.data() + r * row_bytes);
  }
  return out;
}

}  // namespace

std::vector<float> DequantizeRows(const TensorView& w) {
  std::vector<float> out(static_cast<size_t>(w.rows * w.cols));
  for (int64_t r = 0; r < w.rows; ++r) {
    CpuKernels().dequantize_f32(w.dtype, w.row(r), 0, w.cols, out.data() + r * w.cols);
  }
  return out;
}

std::vector<float> RowNorms(const TensorView& w) {
  std::vector<float> norms;
  std::vector<float> row(static_cast<size_t>(w.cols));
  for (int64_t r = 0; r < w.rows; ++r) {
    CpuKernels().dequantize_f32(w.dtype, w.row(r), 0, w.cols, row.data());
    double squares = 0;
    for (const float value : row) squares += static_cast<double>(value) * value;
    norms.push_back(static_cast<float>(std::max(std::sqrt(squares), 1e-30)));
  }
  return norms;
}

void StoreFactors(const LowRank& factors, int64_t rank, DType dtype, StoredLayerPredictor* out) {
  const int64_t d_model = static_cast<int64_t>(factors.in_proj.size()) / rank;
  const int64_t d_ff = static_cast<int64_t>(factors.out_proj.size()) / rank;
  out->in_bytes = QuantizeRows(factors.in_proj, d_model, dtype);
  out->out_bytes = QuantizeRows(factors.out_proj, rank, dtype);
  out->predictor.in_proj = DenseView(out->in_bytes.data(), dtype, rank, d_model);
  out->predictor.out_proj = DenseView(out->out_bytes.data(), dtype, d_ff, rank);
}

void StorePoints(std::span<const ChosenPoint> chosen, bool has_factors, StoredLayerPredictor* out) {
  const size_t d_ff = chosen[0].predictor_thresholds.size();
  out->predictor.points.resize(chosen.size());
  if (has_factors) out->biases.resize(chosen.size() * d_ff);
  for (size_t p = 0; p < chosen.size(); ++p) {
    OperatingPoint& point = out->predictor.points[p];
    if (!has_factors) {
      point.predictor_threshold = chosen[p].predictor_thresholds[0];
      continue;
    }
    float* bias = out->biases.data() + p * d_ff;
    for (size_t i = 0; i < d_ff; ++i) bias[i] = -chosen[p].predictor_thresholds[i];
    point.bias = bias;
  }
}

void OrderByChannel(std::span<const int32_t> order, StoredLayerPredictor* out) {
  const auto row_bytes = static_cast<std::ptrdiff_t>(out->out_bytes.size()) /
                         static_cast<std::ptrdiff_t>(order.size());
  const std::vector<std::byte> rows = out->out_bytes;
  const std::vector<float> biases = out->biases;
  for (size_t i = 0; i < order.size(); ++i) {
    const auto channel = static_cast<size_t>(order[i]);
    std::copy_n(rows.begin() + static_cast<std::ptrdiff_t>(i) * row_bytes, row_bytes,
                out->out_bytes.begin() + static_cast<std::ptrdiff_t>(channel) * row_bytes);
    for (size_t p = 0; p < out->predictor.points.size(); ++p) {
      out->biases[p * order.size() + channel] = biases[p * order.size() + i];
    }
  }
}

}  // namespace thermocline
