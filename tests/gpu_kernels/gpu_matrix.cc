#include "tests/gpu_kernels/gpu_matrix.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "runtime/core/half.h"
#include "tests/gpu_kernels/random_values.h"

namespace thermocline {
namespace {

void StoreU16(uint16_t value, std::byte* to) { std::memcpy(to, &value, sizeof(value)); }

// A weight of an unquantised type.
void StoreFloat(DType dtype, float value, std::byte* to) {
  if (dtype == DType::kF32) std::memcpy(to, &value, sizeof(value));
  if (dtype == DType::kF16) StoreU16(F32ToF16(value), to);
  if (dtype == DType::kBF16) StoreU16(F32ToBf16(value), to);
}

// Where the f16 scale lies in a quantised block.
int64_t ScaleAt(DType dtype) { return dtype == DType::kQ6_K ? 208 : 0; }

void RandomRow(DType dtype, int64_t cols, std::mt19937* rng, std::byte* row) {
  const DTypeInfo& info = GetDTypeInfo(dtype);
  if (!testing::IsQuantised(dtype)) {
    std::uniform_real_distribution<float> weight(-1, 1);
    for (int64_t i = 0; i < cols; ++i) StoreFloat(dtype, weight(*rng), row + i * info.block_bytes);
    return;
  }
  std::uniform_real_distribution<float> scale(0.002F, 0.02F);
  std::uniform_int_distribution<int> byte(0, 255);
  for (int64_t b = 0; b < cols / info.block_elems; ++b) {
    std::byte* const block = row + b * info.block_bytes;
    for (uint32_t i = 0; i < info.block_bytes; ++i) block[i] = static_cast<std::byte>(byte(*rng));
    // A scale of Q6_K is multiplied by a signed byte.
    const float one = scale(*rng) / (dtype == DType::kQ6_K ? 64.0F : 1.0F);
    StoreU16(F32ToF16(one), block + ScaleAt(dtype));
    // Weights around zero.
    if (dtype == DType::kQ4_1) StoreU16(F32ToF16(-400.0F * scale(*rng) * one), block + 2);
  }
}

}  // namespace

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
    RandomRow(dtype, cols, &rng, row);
    decoded_.push_back(testing::DecodeRow(dtype, row, cols));
    magnitudes_.push_back(testing::WeightMagnitudes(dtype, row, cols));
  }
}

void TestMatrix::SpoilRow(int64_t row) {
  const DTypeInfo& info = GetDTypeInfo(dtype_);
  std::byte* const bytes = file_.data() + row * stride_bytes_;
  constexpr uint16_t kF16Nan = 0x7e00;
  for (int64_t i = 0; i < cols_ / info.block_elems; ++i) {
    std::byte* const block = bytes + i * info.block_bytes;
    if (testing::IsQuantised(dtype_)) {
      StoreU16(kF16Nan, block + ScaleAt(dtype_));
    } else {
      StoreFloat(dtype_, std::numeric_limits<float>::quiet_NaN(), block);
    }
  }
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
  // Three roundings of scales, for Q6_K one of a sum of integers, for Q4_1 one of the offset's
  // addition, five additions across the warp, seven across warps.
  const double fixed = testing::IsQuantised(w.dtype()) ? 19 : 16;
  const testing::Tolerance tolerance{.fixed = fixed, .per_term = 1.0 / 32};
  const auto n = static_cast<int64_t>(x.size());
  return {sum, testing::AllowedError(tolerance, n, magnitudes, sum)};
}

std::vector<int64_t> MatrixCols(DType dtype) {
  if (dtype == DType::kQ6_K) return {256, 768, 1280, 2816};
  if (testing::IsQuantised(dtype)) return {32, 96, 544, 1024, 4128};
  return {1, 7, 33, 256, 1025, 2050};
}

}  // namespace thermocline
