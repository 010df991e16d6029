#include "gpu_kernels/products/batch_gemm.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "gpu_kernels/products/dequantise.h"
#include "runtime/core/half.h"
#include "runtime/gguf/gguf_reader.h"
#include "tests/gpu_kernels/gpu_matrix.h"
#include "tests/gpu_kernels/random_values.h"

namespace thermocline {
namespace {

using GpuBatchGemmTest = GpuTest;
using GpuDequantiseTest = GpuTest;

double Rounded(double value) { return testing::DecodeHalf(F32ToF16(static_cast<float>(value))); }

// Rows 2 to 6 of 9 as panels, with zeros behind the columns.
template <typename Out>
std::vector<Out> Dequantised(Stream& stream, const TestMatrix& w, Out unwritten) {
  const auto n = static_cast<size_t>(5 * GpuPaddedCols(w.cols()));
  const OnDevice<Out> out(stream, std::vector<Out>(n, unwritten));
  GpuDequantise(stream, w.gpu(), 2, 5, out.data());
  return out.Read();
}

TEST_F(GpuDequantiseTest, GivesTheWeightsOrTheirNearestHalves) {
  for (const DType dtype : kWeightDTypes) {
    for (const int64_t cols : MatrixCols(dtype)) {
      Stream stream;
      TestMatrix w(dtype, 9, cols, 1);
      w.Upload(stream);
      const std::vector<float> singles = Dequantised<float>(stream, w, kNan);
      const std::vector<uint16_t> halves = Dequantised<uint16_t>(stream, w, 0x7e00);
      const int64_t padded = GpuPaddedCols(cols);
      for (int64_t r = 0; r < 5; ++r) {
        for (int64_t c = 0; c < padded; ++c) {
          const double weight = c < cols ? w.row(2 + r)[static_cast<size_t>(c)] : 0;
          const auto at = static_cast<size_t>(r * padded + c);
          ASSERT_EQ(singles[at], static_cast<float>(weight))
              << DTypeName(dtype) << ", row " << r << ", column " << c;
          ASSERT_EQ(testing::DecodeHalf(halves[at]), Rounded(weight))
              << DTypeName(dtype) << ", row " << r << ", column " << c;
        }
      }
    }
  }
}

// Blocks with factors of both signs, subnormal and large ones, and their values by the public gguf
// package (tests/cpu_kernels/make_blocks.py).
TEST_F(GpuDequantiseTest, GivesThePublicPackagesValues) {
  const GgufReader gguf(std::string(THERMOCLINE_SOURCE_DIR) + "/tests/cpu_kernels/blocks.gguf");
  for (const DType dtype : kWeightDTypes) {
    // The package does not know our own types: their packed rows are compared in
    // weight_layout_test.
    if (!testing::IsQuantised(dtype) || dtype == DType::kS2_0 || dtype == DType::kS3_0) continue;
    const std::string name(DTypeName(dtype));
    const TensorView blocks = gguf.RequireMatrix("blocks." + name, 3, 512);
    const TensorView values = gguf.RequireMatrix("values." + name, 3, 512);
    std::vector<float> expected(3 * 512);
    std::memcpy(expected.data(), values.data, expected.size() * sizeof(float));
    std::vector<std::byte> packed(static_cast<size_t>(3 * GpuRowBytes(dtype, 512)));
    PackGpuRows(dtype, blocks.data, blocks.row_stride_bytes, 3, 512, packed.data());
    Stream stream;
    const OnDevice<std::byte> weights(stream, packed);
    const OnDevice<float> out(stream, std::vector<float>(expected.size(), kNan));
    GpuDequantise(stream, MakeGpuMatrix(weights.data(), dtype, 3, 512), 0, 3, out.data());
    EXPECT_EQ(out.Read(), expected) << name;
  }
}

// A batch on the GPU, and what a matrix of a type sees of it.
class Batch {
 public:
  Batch(Stream& stream, std::vector<float> x, int64_t n_tokens)
      : x_(std::move(x)),
        cols_(static_cast<int64_t>(x_.size()) / n_tokens),
        x_device_(stream, x_),
        memory_(GpuBatchBytes(cols_, n_tokens), "a test's batch"),
        gpu_(MakeGpuBatch(memory_.as<void>(), cols_, n_tokens)) {
    for (const float value : x_) largest_ = std::max(largest_, std::fabs(value));
    GpuPrepareBatch(stream, x_device_.data(), n_tokens, gpu_);
  }
  const GpuBatch& gpu() const { return gpu_; }
  double Seen(DType weights, int64_t token, int64_t col) const {
    const float value = x_[static_cast<size_t>(token * cols_ + col)];
    if (weights == DType::kF32) return value;
    double power = 1;
    while (largest_ / power >= 32768) power *= 2;
    return Rounded(value / power) * power;
  }

 private:
  std::vector<float> x_;
  int64_t cols_;
  float largest_ = 0;
  OnDevice<float> x_device_;
  DeviceMemory memory_;
  GpuBatch gpu_;
};

double SeenWeight(const TestMatrix& w, int64_t row, int64_t col) {
  const double weight = w.row(row)[static_cast<size_t>(col)];
  return w.dtype() == DType::kF32 ? weight : Rounded(weight);
}

// y against sums of n products in double, given term(t, o, i); in f32 in any order, chopped where
// tensor cores add.
template <typename Term>
void ExpectSums(const std::vector<float>& y, int64_t n_tokens, int64_t n_outputs, int64_t n,
                const std::vector<float>& bias, const Term& term) {
  for (int64_t t = 0; t < n_tokens; ++t) {
    for (int64_t o = 0; o < n_outputs; ++o) {
      double sum = bias.empty() ? 0 : bias[static_cast<size_t>(o)];
      double magnitudes = std::fabs(sum);
      for (int64_t i = 0; i < n; ++i) {
        const double product = term(t, o, i);
        sum += product;
        magnitudes += std::fabs(product);
      }
      const double bound = static_cast<double>(n + 2) * 0x1p-23 * magnitudes;
      ASSERT_NEAR(y[static_cast<size_t>(t * n_outputs + o)], sum, bound)
          << "token " << t << ", output " << o;
    }
  }
}

// Widths of rows; panels hold a few rows.
constexpr int64_t kRowsOfPanel = 4;

std::vector<float> Rows(Stream& stream, GpuGemm& gemm, const TestMatrix& w, const Batch& x,
                        const std::vector<float>& bias, int64_t n_tokens) {
  const DeviceMemory panel(kRowsOfPanel * GpuPanelBytes(w.cols()), "a test's panel");
  const OnDevice<float> bias_device(stream, bias);
  const OnDevice<float> y(stream,
                          std::vector<float>(static_cast<size_t>(n_tokens * w.rows()), kNan));
  GpuBatchRows(stream, gemm, w.gpu(), bias.empty() ? nullptr : bias_device.data(), x.gpu(),
               n_tokens, {panel.as<void>(), panel.size()}, y.data());
  return y.Read();
}

TEST_F(GpuBatchGemmTest, MultipliesRows) {
  GpuGemm gemm;
  for (const DType dtype : KernelTypes()) {
    for (const int64_t cols : {MatrixCols(dtype)[0], MatrixCols(dtype)[1]}) {
      for (const bool with_bias : {false, true}) {
        constexpr int64_t kTokens = 5;
        Stream stream;
        TestMatrix w(dtype, 11, cols, 2);
        w.Upload(stream);
        const Batch x(stream, RandomValues(static_cast<size_t>(kTokens * cols), 3), kTokens);
        const std::vector<float> bias = with_bias ? RandomValues(11, 4) : std::vector<float>{};
        ExpectSums(Rows(stream, gemm, w, x, bias, kTokens), kTokens, 11, cols, bias,
                   [&](int64_t t, int64_t o, int64_t i) {
                     return SeenWeight(w, o, i) * x.Seen(dtype, t, i);
                   });
      }
    }
  }
}

TEST_F(GpuBatchGemmTest, MultipliesColumns) {
  GpuGemm gemm;
  for (const DType dtype : KernelTypes()) {
    for (const int64_t n_neurons : {1, 19, 64}) {
      constexpr int64_t kTokens = 3;
      const int64_t cols = testing::WholeBlocks(dtype, 41);
      Stream stream;
      TestMatrix w(dtype, n_neurons, cols, 5);
      w.Upload(stream);
      const Batch h(stream, RandomValues(static_cast<size_t>(kTokens * n_neurons), 6), kTokens);
      const DeviceMemory panel(kRowsOfPanel * GpuPanelBytes(cols), "a test's panel");
      const OnDevice<float> y(stream,
                              std::vector<float>(static_cast<size_t>(kTokens * cols), kNan));
      GpuBatchColumns(stream, gemm, w.gpu(), h.gpu(), kTokens, {panel.as<void>(), panel.size()},
                      y.data());
      ExpectSums(y.Read(), kTokens, cols, n_neurons, {}, [&](int64_t t, int64_t o, int64_t i) {
        return SeenWeight(w, i, o) * h.Seen(dtype, t, i);
      });
    }
  }
}

// A squared ReLU easily leaves what f16 holds.
TEST_F(GpuBatchGemmTest, LargeActivationsDoNotOverflow) {
  GpuGemm gemm;
  for (const float largest : {32767.0F, 32768.0F, 65535.0F, 1e6F, 1e30F}) {
    Stream stream;
    TestMatrix w(DType::kQ8_0, 5, 64, 7);
    w.Upload(stream);
    std::vector<float> values = RandomValues(2 * 64, 8);
    for (float& value : values) value *= largest;
    values[70] = largest;
    const Batch x(stream, values, 2);
    const std::vector<float> bias = RandomValues(5, 9);
    ExpectSums(Rows(stream, gemm, w, x, bias, 2), 2, 5, 64, bias,
               [&](int64_t t, int64_t o, int64_t i) {
                 return SeenWeight(w, o, i) * x.Seen(DType::kQ8_0, t, i);
               });
  }
}

TEST_F(GpuBatchGemmTest, GarbageStaysVisible) {
  GpuGemm gemm;
  for (const float garbage : {kNan, std::numeric_limits<float>::infinity()}) {
    Stream stream;
    TestMatrix w(DType::kF16, 5, 64, 10);
    w.Upload(stream);
    std::vector<float> values = RandomValues(2 * 64, 11);
    values[3] = garbage;
    const Batch x(stream, values, 2);
    const std::vector<float> y = Rows(stream, gemm, w, x, {}, 2);
    for (size_t o = 0; o < 5; ++o) EXPECT_FALSE(std::isfinite(y[o])) << o;
  }
}

}  // namespace
}  // namespace thermocline
