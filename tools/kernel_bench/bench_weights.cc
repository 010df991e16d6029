#include "tools/kernel_bench/bench_weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>

namespace thermocline {
namespace {

std::vector<float> RandomFloats(std::mt19937* rng, int64_t n) {
  std::normal_distribution<float> normal;
  std::vector<float> out(static_cast<size_t>(n));
  for (float& value : out) value = normal(*rng);
  return out;
}

std::vector<float> Decoded(DType dtype, int64_t n, const std::byte* row) {
  std::vector<float> out(static_cast<size_t>(n));
  AvailableCpuKernels().front()->dequantize_f32(dtype, row, 0, n, out.data());
  return out;
}

// Returns what the row holds of x.
std::vector<float> QuantisedRow(DType dtype, const std::vector<float>& x, std::byte* row) {
  const auto n = static_cast<int64_t>(x.size());
  QuantizeRow(dtype, x.data(), n, row);
  return Decoded(dtype, n, row);
}

// Of a type that nothing here writes: random bits whose values are finite. Returns those.
std::vector<float> RandomRow(DType dtype, int64_t n, std::mt19937* rng, std::byte* row) {
  while (true) {
    for (int64_t i = 0; i < RowBytes(dtype, n); ++i) row[i] = static_cast<std::byte>((*rng)());
    std::vector<float> values = Decoded(dtype, n, row);
    const auto finite = [](float value) { return std::isfinite(value); };
    if (std::all_of(values.begin(), values.end(), finite)) return values;
  }
}

[[noreturn]] void Wrong(const char* kernel, DType dtype, double got, double reference) {
  fmt::print(stderr, "kernel_bench: {} of {} is wrong: {} instead of {}\n", kernel,
             DTypeName(dtype), got, reference);
  std::exit(1);
}

}  // namespace

BenchWeights::BenchWeights(DType dtype, int64_t n_cols, uint64_t n_bytes)
    : dtype_(dtype),
      n_cols_(n_cols),
      stride_bytes_(RowBytes(dtype, n_cols)),
      n_rows_(static_cast<int64_t>(n_bytes) / stride_bytes_),
      buffer_(static_cast<uint64_t>(n_rows_ * stride_bytes_), "weights of the bench") {
  std::mt19937 rng(1);
  x_ = RandomFloats(&rng, n_cols);
  const KernelTable& kernels = CpuKernels();
  const VectorForm form = kernels.vector_form(dtype);
  prepared_ = AlignedBuffer(static_cast<uint64_t>(kernels.prepared_bytes(form, n_cols)),
                            "a vector of the bench");
  kernels.prepare(form, x_.data(), n_cols, prepared_.data());
  std::vector<std::byte> rows(static_cast<size_t>(kDistinctRows * stride_bytes_));
  for (int64_t r = 0; r < kDistinctRows; ++r) {
    std::byte* row = rows.data() + r * stride_bytes_;
    distinct_.push_back(GetWeightTypeInfo(dtype).written
                            ? QuantisedRow(dtype, RandomFloats(&rng, n_cols), row)
                            : RandomRow(dtype, n_cols, &rng, row));
  }
  for (int64_t r = 0; r < n_rows_; ++r) {
    std::memcpy(buffer_.bytes() + r * stride_bytes_,
                rows.data() + r % kDistinctRows * stride_bytes_,
                static_cast<size_t>(stride_bytes_));
  }
}

void BenchWeights::verify() const {
  verify_matvec();
  verify_accumulate();
}

void BenchWeights::verify_matvec() const {
  std::vector<float> y(static_cast<size_t>(kDistinctRows));
  CpuKernels().matvec(dtype_, data(), stride_bytes_, n_cols_, prepared(), nullptr, 0, kDistinctRows,
                      y.data());
  for (size_t r = 0; r < y.size(); ++r) {
    double reference = 0.0;
    double squares = 0.0;
    for (size_t c = 0; c < x_.size(); ++c) {
      const double product = static_cast<double>(distinct_[r][c]) * x_[c];
      reference += product;
      squares += product * product;
    }
    // Activations in int8 are off by about 1 % of their size, independently: 2^-6 of the root of
    // the sum of squares is several standard deviations.
    if (!(std::fabs(y[r] - reference) <= 0x1p-6 * std::sqrt(squares) * 4)) {
      Wrong("matvec", dtype_, y[r], reference);
    }
  }
}

void BenchWeights::verify_accumulate() const {
  std::vector<float> y(x_.size(), 0.0F);
  const std::vector<float> h(static_cast<size_t>(2 * kDistinctRows), 0.5F);
  CpuKernels().accumulate_rows(dtype_, data(), stride_bytes_, h.data(), nullptr, 2 * kDistinctRows,
                               0, n_cols_, y.data());
  for (size_t c = 0; c < y.size(); ++c) {
    double reference = 0.0;
    double magnitudes = 0.0;
    for (const std::vector<float>& row : distinct_) {
      reference += row[c];
      magnitudes += std::fabs(row[c]);
    }
    if (!(std::fabs(y[c] - reference) <= 0x1p-19 * magnitudes)) {
      Wrong("accumulate_rows", dtype_, y[c], reference);
    }
  }
}

const BenchWeights& SharedBenchWeights(DType dtype, int64_t n_cols, uint64_t n_bytes) {
  static std::unique_ptr<BenchWeights> weights;
  static uint64_t bytes = 0;
  if (weights == nullptr || weights->dtype() != dtype || weights->n_cols() != n_cols ||
      bytes != n_bytes) {
    weights.reset();
    weights = std::make_unique<BenchWeights>(dtype, n_cols, n_bytes);
    weights->verify();
    bytes = n_bytes;
  }
  return *weights;
}

}  // namespace thermocline
