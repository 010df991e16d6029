#include "tests/gpu_kernels/gpu_matrix.h"

#include <cmath>
#include <random>

#include "runtime/core/error.h"
#include "tests/gpu_kernels/random_values.h"

namespace thermocline {
TestMatrix::TestMatrix(DType dtype, int64_t rows, int64_t cols, uint32_t seed,
                       int64_t padding_bytes)
    : dtype_(dtype),
      rows_(rows),
      cols_(cols),
      stride_bytes_(RowBytes(dtype, cols) + padding_bytes),
      file_(static_cast<size_t>(rows * stride_bytes_), std::byte{0xff}) {
  std::mt19937 rng(seed);
  for (int64_t r = 0; r < rows; ++r) {
    std::byte* const row = file_.data() + r * stride_bytes_;
    testing::RandomRow(dtype, cols, &rng, row);
    decoded_.push_back(testing::DecodeRow(dtype, row, cols));
    magnitudes_.push_back(testing::WeightMagnitudes(dtype, row, cols));
  }
}

void TestMatrix::SpoilRow(int64_t row) {
  CHECK(testing::SpoilRow(dtype_, cols_, file_.data() + row * stride_bytes_));
}

std::vector<std::byte> TestMatrix::Packed() const {
  std::vector<std::byte> packed(static_cast<size_t>(rows_ * GpuRowBytes(dtype_, cols_)));
  PackGpuRows(dtype_, file_.data(), stride_bytes_, rows_, cols_, packed.data());
  return packed;
}

void TestMatrix::Upload(Stream& stream) {
  memory_.emplace(stream, Packed());
  gpu_ = MakeGpuMatrix(memory_->data(), dtype_, rows_, cols_);
}

TestVectors::TestVectors(Stream& stream, int64_t cols, int64_t n_tokens, uint32_t seed)
    : cols_(cols),
      x_(RandomValues(static_cast<size_t>(cols * n_tokens), seed)),
      x_memory_(stream, x_),
      memory_(GpuVectorsBytes(cols, n_tokens), "a test's vectors"),
      gpu_(MakeGpuVectors(memory_.as<void>(), cols, n_tokens)) {
  GpuPrepare(stream, x_memory_.data(), n_tokens, PrepareOp::kCopy, gpu_);
}

std::vector<double> TestVectors::Seen(DType weights, int64_t token) const {
  const auto begin = x_.begin() + token * cols_;
  const std::vector<float> x(begin, begin + cols_);
  if (testing::IsQuantised(weights)) return testing::QuantisedActivations(x);
  return {x.begin(), x.end()};
}

Expected ExpectedDot(const TestMatrix& w, int64_t row, const std::vector<double>& x) {
  double sum = 0;
  double magnitudes = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    sum += w.row(row)[i] * x[i];
    magnitudes += w.magnitudes(row)[i] * std::fabs(x[i]);
  }
  // Three roundings of scales, one of a sum of integers where there are two scales, one of a sum of
  // elements and one of the addition of each offset, five additions across the warp, seven across
  // warps.
  const double fixed = testing::IsQuantised(w.dtype()) ? 20 : 16;
  const testing::Tolerance tolerance{.fixed = fixed, .per_term = 1.0 / 32};
  const auto n = static_cast<int64_t>(x.size());
  return {sum, testing::AllowedError(tolerance, n, magnitudes, sum)};
}

std::vector<int64_t> MatrixCols(DType dtype) {
  if (!testing::IsQuantised(dtype)) return {1, 7, 33, 256, 1025, 2050};
  if (GetDTypeInfo(dtype).block_elems == kSuperBlock) return {256, 768, 1280, 2816};
  return {32, 96, 544, 1024, 4128};
}

std::vector<DType> KernelTypes() {
  std::vector<DType> types;
  for (const DType dtype : kWeightDTypes) {
    if (GpuDType(dtype) == dtype) types.push_back(dtype);
  }
  return types;
}

bool HasNan(DType dtype) { return dtype != DType::kMXFP4; }

}  // namespace thermocline
