#include "gpu_kernels/products/matvec.h"

#include <cmath>
#include <limits>

#include "tests/gpu_kernels/gpu_matrix.h"
#include "tests/gpu_kernels/random_values.h"

namespace thermocline {
namespace {

using GpuMatvecTest = GpuTest;

// (n_tokens, rows) that nobody has written.
std::vector<float> Unwritten(int64_t n) {
  return std::vector<float>(static_cast<size_t>(n), std::numeric_limits<float>::quiet_NaN());
}

void ExpectProduct(const TestMatrix& w, const TestVectors& x, const std::vector<float>& bias,
                   const std::vector<float>& y, int64_t n_tokens) {
  for (int64_t t = 0; t < n_tokens; ++t) {
    const std::vector<double> seen = x.Seen(w.dtype(), t);
    for (int64_t r = 0; r < w.rows(); ++r) {
      Expected expected = ExpectedDot(w, r, seen);
      if (!bias.empty()) {
        expected.value += bias[static_cast<size_t>(r)];
        expected.error += std::fabs(expected.value) * 0x1p-23;
      }
      ASSERT_NEAR(y[static_cast<size_t>(t * w.rows() + r)], expected.value, expected.error)
          << DTypeName(w.dtype()) << " " << w.rows() << " x " << w.cols() << ", row " << r
          << ", token " << t << " of " << n_tokens;
    }
  }
}

// y = W x + bias on the GPU.
std::vector<float> Multiply(Stream& stream, const TestMatrix& w, const TestVectors& x,
                            const std::vector<float>& bias, int64_t n_tokens) {
  const OnDevice<float> y(stream, Unwritten(n_tokens * w.rows()));
  const OnDevice<float> bias_device(stream, bias);
  const GpuMatvecOp step{w.gpu(), bias.empty() ? nullptr : bias_device.data(), y.data()};
  GpuMatvec(stream, {&step, 1}, x.gpu(), n_tokens);
  return y.Read();
}

TEST_F(GpuMatvecTest, EqualsTheReferenceWhateverTheShape) {
  for (const DType dtype : kWeightDTypes) {
    for (const int64_t cols : MatrixCols(dtype)) {
      for (const int64_t rows : {1, 2, 37}) {
        InEveryOrderIf(cols == MatrixCols(dtype)[2], [=] {
          Stream stream;
          TestMatrix w(dtype, rows, cols, 1);
          w.Upload(stream);
          const TestVectors x(stream, cols, 1, 2);
          ExpectProduct(w, x, {}, Multiply(stream, w, x, {}, 1), 1);
        });
      }
    }
  }
}

TEST_F(GpuMatvecTest, TakesSeveralTokensAndABias) {
  for (const DType dtype : KernelTypes()) {
    for (const int64_t n_tokens : {2, 3, 4, 5, 8, 11}) {
      Stream stream;
      const int64_t cols = testing::WholeBlocks(dtype, 544);
      TestMatrix w(dtype, 19, cols, 3);
      w.Upload(stream);
      const TestVectors x(stream, cols, n_tokens, 4);
      const std::vector<float> bias = RandomValues(19, 5);
      ExpectProduct(w, x, bias, Multiply(stream, w, x, bias, n_tokens), n_tokens);
    }
  }
}

// More rows than keep the largest split: a group of rows is one warp, and blocks hold several.
TEST_F(GpuMatvecTest, TallMatrices) {
  Stream stream;
  TestMatrix w(DType::kQ8_0, 8201, 256, 6);
  w.Upload(stream);
  const TestVectors x(stream, 256, 1, 7);
  ExpectProduct(w, x, {}, Multiply(stream, w, x, {}, 1), 1);
}

TEST_F(GpuMatvecTest, ATokensBitsAreTheSameInEveryBatch) {
  for (const DType dtype : KernelTypes()) {
    Stream stream;
    const int64_t cols = testing::WholeBlocks(dtype, 2080);
    TestMatrix w(dtype, 9, cols, 8);
    w.Upload(stream);
    const TestVectors x(stream, cols, 8, 9);
    const std::vector<float> all = Multiply(stream, w, x, {}, 8);
    for (const int64_t n_tokens : {1, 2, 4, 7}) {
      const std::vector<float> some = Multiply(stream, w, x, {}, n_tokens);
      EXPECT_EQ(some, std::vector<float>(all.begin(), all.begin() + n_tokens * 9))
          << DTypeName(dtype) << ", " << n_tokens << " tokens";
    }
  }
}

TEST_F(GpuMatvecTest, SeveralMatricesShareX) {
  InEveryOrder([] {
    Stream stream;
    // Matrices like q, k and v; more than one launch takes; types mixed; one without rows.
    std::vector<TestMatrix> matrices;
    for (const int64_t rows : {64, 16, 16, 3, 0, 41}) {
      matrices.emplace_back(DType::kQ4_0, rows, 256, static_cast<uint32_t>(rows));
    }
    matrices.emplace_back(DType::kF16, 21, 256, 10);
    matrices.emplace_back(DType::kQ8_0, 5, 256, 11);
    matrices.emplace_back(DType::kQ6_K, 7, 256, 13);
    const TestVectors x(stream, 256, 2, 12);
    std::vector<OnDevice<float>> ys;
    ys.reserve(matrices.size());
    std::vector<GpuMatvecOp> steps;
    for (TestMatrix& w : matrices) {
      if (w.rows() > 0) w.Upload(stream);
      ys.emplace_back(stream, Unwritten(2 * w.rows()));
      steps.push_back({w.gpu(), nullptr, ys.back().data()});
    }
    GpuMatvec(stream, steps, x.gpu(), 2);
    for (size_t i = 0; i < matrices.size(); ++i) {
      const std::vector<float> y = ys[i].Read();
      ExpectProduct(matrices[i], x, {}, y, 2);
      if (matrices[i].rows() == 0) continue;
      EXPECT_EQ(y, Multiply(stream, matrices[i], x, {}, 2)) << "alone, matrix " << i;
    }
  });
}

}  // namespace
}  // namespace thermocline
