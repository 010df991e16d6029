#include "gpu_kernels/products/gemm.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "runtime/core/half.h"
#include "tests/gpu_kernels/gpu_test.h"
#include "tests/gpu_kernels/random_values.h"
#include "tests/support/message_of.h"

namespace thermocline {
namespace {

using GpuGemmTest = GpuTest;

struct Shape {
  int n_tokens, n_rows, n_cols;
};
constexpr Shape kShapes[] = {{1, 1, 1}, {2, 3, 5}, {17, 33, 64}, {5, 7, 301}};

// y against double, for x and w as the GPU got them: a sum of n products in f32 in any order.
void ExpectProduct(const Shape& shape, const std::vector<float>& w, const std::vector<float>& x,
                   double start, const std::vector<float>& y) {
  for (int token = 0; token < shape.n_tokens; ++token) {
    for (int row = 0; row < shape.n_rows; ++row) {
      double sum = start;
      double size = std::abs(start);
      for (int col = 0; col < shape.n_cols; ++col) {
        const double product = double{w[row * shape.n_cols + col]} * x[token * shape.n_cols + col];
        sum += product;
        size += std::abs(product);
      }
      const double bound = (shape.n_cols + 1) * size * std::numeric_limits<float>::epsilon() / 2;
      ASSERT_NEAR(y[token * shape.n_rows + row], sum, bound)
          << "token " << token << ", row " << row;
    }
  }
}

TEST_F(GpuGemmTest, F32) {
  Stream stream;
  GpuGemm gemm;
  for (const Shape& shape : kShapes) {
    const std::vector<float> w = RandomValues(shape.n_rows * shape.n_cols, 1);
    const std::vector<float> x = RandomValues(shape.n_tokens * shape.n_cols, 2);
    const OnDevice<float> w_device(stream, w);
    const OnDevice<float> x_device(stream, x);
    const OnDevice<float> y(stream, std::vector<float>(shape.n_tokens * shape.n_rows, 3.0f));
    const auto multiply = [&](GpuGemm::Result result) {
      gemm.MatMul(stream, y.data(), w_device.data(), x_device.data(), GemmType::kF32,
                  shape.n_tokens, shape.n_rows, shape.n_cols, result);
    };
    multiply(GpuGemm::Result::kReplace);
    const std::vector<float> replaced = y.Read();
    ExpectProduct(shape, w, x, 0, replaced);
    stream.Copy(y.data(), std::vector<float>(replaced.size(), 3.0f).data(), replaced.size() * 4);
    multiply(GpuGemm::Result::kAdd);
    ExpectProduct(shape, w, x, 3, y.Read());
  }
}

// Weights and inputs of 16 bits; products and sums in f32.
void ExpectHalfProduct(GemmType type, uint16_t (*to_half)(float), float (*to_float)(uint16_t)) {
  Stream stream;
  GpuGemm gemm;
  for (const Shape& shape : kShapes) {
    std::vector<float> w = RandomValues(shape.n_rows * shape.n_cols, 3);
    std::vector<float> x = RandomValues(shape.n_tokens * shape.n_cols, 4);
    const auto round = [&](std::vector<float>& values) {
      std::vector<uint16_t> bits;
      for (float& value : values) value = to_float(bits.emplace_back(to_half(value)));
      return bits;
    };
    const OnDevice<uint16_t> w_device(stream, round(w));
    const OnDevice<uint16_t> x_device(stream, round(x));
    const OnDevice<float> y(stream, std::vector<float>(shape.n_tokens * shape.n_rows));
    gemm.MatMul(stream, y.data(), w_device.data(), x_device.data(), type, shape.n_tokens,
                shape.n_rows, shape.n_cols);
    ExpectProduct(shape, w, x, 0, y.Read());
  }
}

TEST_F(GpuGemmTest, F16) { ExpectHalfProduct(GemmType::kF16, F32ToF16, F16ToF32); }
TEST_F(GpuGemmTest, Bf16) { ExpectHalfProduct(GemmType::kBf16, F32ToBf16, Bf16ToF32); }

TEST_F(GpuGemmTest, IsCaptured) {
  Stream stream;
  GpuGemm gemm;
  const OnDevice<float> w(stream, {2.0f});
  const OnDevice<float> x(stream, {3.0f});
  const OnDevice<float> y(stream, {1.0f});
  stream.Synchronize();
  GraphCapture capture(stream);
  gemm.MatMul(stream, y.data(), w.data(), x.data(), GemmType::kF32, 1, 1, 1, GpuGemm::Result::kAdd);
  Graph graph = capture.Finish();
  graph.Launch(stream);
  graph.Launch(stream);
  EXPECT_EQ(y.Read()[0], 13.0f);
}

#ifdef THERMOCLINE_GPU_EMULATED
TEST_F(GpuGemmTest, OperandsStayInsideTheirMemory) {
  Stream stream;
  GpuGemm gemm;
  const OnDevice<float> w(stream, std::vector<float>(6));
  const OnDevice<float> x(stream, std::vector<float>(3));
  const OnDevice<float> y(stream, std::vector<float>(2));
  const auto multiply = [&](int n_rows) {
    gemm.MatMul(stream, y.data(), w.data(), x.data(), GemmType::kF32, 1, n_rows, 3);
  };
  EXPECT_EQ(MessageOf([&] { multiply(2); }), "");
  EXPECT_THAT(MessageOf([&] { multiply(3); }),
              testing::HasSubstr("a product of 1 tokens with a 3 x 3 matrix failed"));
}
#endif

}  // namespace
}  // namespace thermocline
