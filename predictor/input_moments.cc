#include "predictor/input_moments.h"

#include <algorithm>

#include "runtime/core/error.h"
#include "runtime/threads/sgemm.h"

namespace thermocline {
namespace {

constexpr int64_t kRowsAtOnce = 64;

}  // namespace

CrossMoments::CrossMoments(int64_t d_model)
    : d_(d_model),
      x_sums_(static_cast<size_t>(d_model), 0.0),
      y_sums_(static_cast<size_t>(d_model), 0.0),
      products_(static_cast<size_t>(d_model * d_model), 0.0) {}

// Adds products of a few hundred tokens in f32, and their sums in f64.
void CrossMoments::AddRows(const float* x, const float* y, int64_t n, int64_t begin, int64_t end) {
  std::vector<float> part(static_cast<size_t>(kRowsAtOnce * d_));
  for (int64_t first = begin; first < end; first += kRowsAtOnce) {
    const int64_t rows = std::min(kRowsAtOnce, end - first);
    Sgemm(true, false, rows, d_, n, x + first, d_, y, d_, part.data(), d_);
    double* sums = products_.data() + first * d_;
    for (int64_t i = 0; i < rows * d_; ++i) sums[i] += part[static_cast<size_t>(i)];
  }
  for (int64_t t = 0; t < n; ++t) {
    for (int64_t i = begin; i < end; ++i) {
      x_sums_[static_cast<size_t>(i)] += x[t * d_ + i];
      y_sums_[static_cast<size_t>(i)] += y[t * d_ + i];
    }
  }
}

std::vector<double> CrossMoments::Covariance() const {
  CHECK(n_tokens_ > 0);
  const auto n = static_cast<double>(n_tokens_);
  const auto d = static_cast<size_t>(d_);
  std::vector<double> out = products_;
  for (size_t i = 0; i < d; ++i) {
    for (size_t j = 0; j < d; ++j) {
      out[i * d + j] = out[i * d + j] / n - (x_sums_[i] / n) * (y_sums_[j] / n);
    }
  }
  return out;
}

std::vector<double> CrossMoments::MeanX() const {
  CHECK(n_tokens_ > 0);
  std::vector<double> mean = x_sums_;
  for (double& value : mean) value /= static_cast<double>(n_tokens_);
  return mean;
}

std::vector<double> InputMoments::Covariance(double relative_ridge) const {
  std::vector<double> out = moments_.Covariance();
  const auto d = static_cast<size_t>(d_);
  double trace = 0;
  for (size_t i = 0; i < d; ++i) {
    // One half is copied to the other: the f32 products of the two need not be the same to the last
    // bit.
    for (size_t j = 0; j < i; ++j) out[i * d + j] = out[j * d + i];
    trace += std::max(out[i * d + i], 0.0);
  }
  const double ridge = relative_ridge * std::max(trace / static_cast<double>(d_), 1e-30);
  for (size_t i = 0; i < d; ++i) out[i * d + i] += ridge;
  return out;
}

}  // namespace thermocline
