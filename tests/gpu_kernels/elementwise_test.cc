#include "gpu_kernels/tokens/elementwise.h"

#include <cmath>

#include "tests/gpu_kernels/gpu_test.h"
#include "tests/gpu_kernels/random_values.h"

namespace thermocline {
namespace {

using GpuAddTest = GpuTest;

TEST_F(GpuAddTest, AddsWhateverTheSize) {
  // One more than the largest grid covers at once is among them.
  for (const size_t n : {1, 31, 32, 33, 255, 256, 257, 5003, 262145}) {
    InEveryOrder([n] {
      Stream stream;
      const std::vector<float> x = RandomValues(n, 1);
      const std::vector<float> y = RandomValues(n, 2);
      const OnDevice<float> x_device(stream, x);
      const OnDevice<float> y_device(stream, y);
      GpuAdd(stream, y_device.data(), x_device.data(), static_cast<int64_t>(n));
      const std::vector<float> sum = y_device.Read();
      for (size_t i = 0; i < n; ++i) ASSERT_EQ(sum[i], y[i] + x[i]) << "i " << i << " of " << n;
    });
  }
}

TEST_F(GpuAddTest, EveryRowGetsTheBias) {
  for (const size_t width : {1, 33, 700}) {
    Stream stream;
    const std::vector<float> x = RandomValues(3 * width, 1);
    const std::vector<float> bias = RandomValues(width, 2);
    const OnDevice<float> x_device(stream, x), bias_device(stream, bias);
    GpuAddBias(stream, x_device.data(), bias_device.data(), 3, static_cast<int64_t>(width));
    const std::vector<float> sum = x_device.Read();
    for (size_t i = 0; i < x.size(); ++i) ASSERT_EQ(sum[i], x[i] + bias[i % width]) << i;
  }
}

// Capped, a number is off by two roundings, those of tanh and one more, of itself: how tanh
// changes with its argument is no steeper.
TEST_F(GpuAddTest, ScalesAndCaps) {
  constexpr size_t kN = 1000;
  const std::vector<float> x = RandomValues(kN, 1);
  for (const float scale : {1.0F, -30.0F, 0.01F}) {
    for (const float cap : {0.0F, 1.0F, 30.0F}) {
      Stream stream;
      const OnDevice<float> x_device(stream, x);
      GpuScale(stream, x_device.data(), scale, cap, kN);
      const std::vector<float> y = x_device.Read();
      for (size_t i = 0; i < kN; ++i) {
        if (cap == 0) {
          ASSERT_EQ(y[i], scale * x[i]);
        } else {
          const double expected = cap * std::tanh(double{scale} * x[i] / cap);
          ASSERT_NEAR(y[i], expected, 10 * 0x1p-24 * std::abs(expected)) << x[i];
        }
      }
    }
  }
}

TEST_F(GpuAddTest, AScaleOfZeroClearsWhatIsNoNumber) {
  Stream stream;
  const OnDevice<float> x(stream, {kNan, std::numeric_limits<float>::infinity(), 1.0F});
  GpuScale(stream, x.data(), 0, 0, 3);
  EXPECT_EQ(x.Read(), (std::vector<float>{0, 0, 0}));
}

TEST_F(GpuAddTest, RowsAreMultiplied) {
  constexpr size_t kRows = 3;
  for (const size_t width : {1, 33, 700}) {
    Stream stream;
    const std::vector<float> x = RandomValues(kRows * width, 1);
    const std::vector<float> by = RandomValues(width, 2);
    const OnDevice<float> x_device(stream, x), by_device(stream, by);
    const OnDevice<float> out(stream, std::vector<float>(x.size(), kNan));
    const auto n = static_cast<int64_t>(width);
    GpuMultiplyRows(stream, x_device.data(), by_device.data(), kRows, n, out.data());
    GpuMultiplyRows(stream, x_device.data(), by_device.data(), kRows, n, x_device.data());
    const std::vector<float> product = out.Read();
    for (size_t i = 0; i < x.size(); ++i) ASSERT_EQ(product[i], x[i] * by[i % width]) << i;
    EXPECT_EQ(x_device.Read(), product) << "in place";
  }
}

TEST_F(GpuAddTest, ActivatedRowsAreMultipliedByRowsThatLieApart) {
  constexpr size_t kRows = 4, kWidth = 37, kApart = 50;
  Stream stream;
  const std::vector<float> x = RandomValues(kRows * kWidth, 1);
  const std::vector<float> by = RandomValues(kRows * kApart, 2);
  const OnDevice<float> x_device(stream, x), by_device(stream, by);
  GpuActivateMultiplyRows(stream, {Activation::kRelu, 0.25F}, x_device.data(), by_device.data(),
                          kApart, kRows, kWidth);
  const std::vector<float> product = x_device.Read();
  for (size_t i = 0; i < x.size(); ++i) {
    const float factor = by[i / kWidth * kApart + i % kWidth];
    ASSERT_EQ(product[i], (x[i] < 0.25F ? 0.0F : x[i]) * factor) << i;
  }
}

TEST_F(GpuAddTest, NothingToAddIsNoLaunch) {
  Stream stream;
  GpuAdd(stream, nullptr, nullptr, 0);
  stream.Synchronize();
}

}  // namespace
}  // namespace thermocline
