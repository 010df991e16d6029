#include "gpu_kernels/tokens/norms.h"

#include <cmath>
#include <limits>

#include "gpu_kernels/tokens/elementwise.h"
#include "tests/gpu_kernels/gpu_test.h"
#include "tests/gpu_kernels/random_values.h"

namespace thermocline {
namespace {

using GpuNormsTest = GpuTest;

constexpr float kEpsilon = 1e-5f;
constexpr double kUnit = std::numeric_limits<float>::epsilon() / 2;
constexpr GpuNormKind kKinds[] = {GpuNormKind::kRms, GpuNormKind::kLayer};

// In double. A sum of n terms in fp32 is off by at most n units of the sum of magnitudes: the mean
// by so much, the sum of squares of what is left by that twice and its own, the scale by half as
// much of itself; root, division, two products and the bias add a few.
void ExpectNorm(GpuNormKind kind, const float* x, const float* weight, const float* bias,
                size_t width, const float* y) {
  const auto n = static_cast<double>(width);
  double mean = 0, mean_error = 0;
  for (size_t i = 0; kind == GpuNormKind::kLayer && i < width; ++i) {
    mean += x[i] / n;
    mean_error += (n + 2) * kUnit * std::abs(x[i]) / n;
  }
  double square = 0, distance = 0;
  for (size_t i = 0; i < width; ++i) {
    square += std::pow(x[i] - mean, 2) / n;
    distance += std::abs(x[i] - mean) / n;
  }
  const double square_error =
      (n + 3) * kUnit * square + 2 * mean_error * distance + mean_error * mean_error;
  const double scale = 1 / std::sqrt(square + double{kEpsilon});
  const double relative = square_error / (2 * (square + double{kEpsilon})) + 8 * kUnit;
  for (size_t i = 0; i < width; ++i) {
    const double product = (x[i] - mean) * scale * weight[i];
    const double expected = product + (bias == nullptr ? 0 : bias[i]);
    const double bound = std::abs(product) * relative + std::abs(weight[i]) * scale * mean_error +
                         kUnit * std::abs(expected);
    ASSERT_NEAR(y[i], expected, 1.01 * bound + 1e-30) << "element " << i << " of " << width;
  }
}

void ExpectRows(GpuNormKind kind, const std::vector<float>& x, const std::vector<float>& weight,
                const std::vector<float>& bias, const std::vector<float>& y) {
  const size_t width = weight.size();
  for (size_t at = 0; at < x.size(); at += width) {
    ExpectNorm(kind, x.data() + at, weight.data(), bias.empty() ? nullptr : bias.data(), width,
               y.data() + at);
  }
}

TEST_F(GpuNormsTest, EqualTheReferenceWhateverTheWidth) {
  for (const GpuNormKind kind : kKinds) {
    for (const size_t width : {1, 31, 33, 512, 513, 2560}) {
      for (const size_t n_rows : {1, 3}) {
        InEveryOrder([=] {
          Stream stream;
          std::vector<float> x = RandomValues(n_rows * width, 1);
          for (float& value : x) value += 0.5F;  // so that there is a mean
          const std::vector<float> weight = RandomValues(width, 2);
          const std::vector<float> bias =
              n_rows == 1 ? std::vector<float>{} : RandomValues(width, 3);
          const OnDevice<float> x_device(stream, x);
          const OnDevice<float> weight_device(stream, weight);
          const OnDevice<float> bias_device(stream, bias.empty() ? weight : bias);
          const OnDevice<float> y_device(stream, std::vector<float>(n_rows * width));
          GpuNormRows(
              stream,
              {kind, weight_device.data(), bias.empty() ? nullptr : bias_device.data(), kEpsilon},
              x_device.data(), static_cast<int64_t>(n_rows), static_cast<int64_t>(width),
              y_device.data());
          ExpectRows(kind, x, weight, bias, y_device.Read());
        });
      }
    }
  }
}

TEST_F(GpuNormsTest, MayWriteOverTheirInput) {
  for (const GpuNormKind kind : kKinds) {
    Stream stream;
    const std::vector<float> x = RandomValues(2 * 257, 3);
    const std::vector<float> weight = RandomValues(257, 4);
    const OnDevice<float> both(stream, x);
    const OnDevice<float> weight_device(stream, weight);
    GpuNormRows(stream, {kind, weight_device.data(), nullptr, kEpsilon}, both.data(), 2, 257,
                both.data());
    ExpectRows(kind, x, weight, {}, both.Read());
  }
}

TEST_F(GpuNormsTest, AddedAndNormedInOneOpAreTheSameBits) {
  for (const size_t width : {1, 33, 512, 2560}) {
    for (const GpuNormKind kind : kKinds) {
      InEveryOrder([=] {
        Stream stream;
        const auto n = static_cast<int64_t>(2 * width);
        const std::vector<float> y = RandomValues(2 * width, 6);
        const OnDevice<float> x(stream, RandomValues(2 * width, 5));
        const OnDevice<float> two_steps(stream, RandomValues(2 * width, 5));
        const OnDevice<float> y_device(stream, y);
        const OnDevice<float> weight(stream, RandomValues(width, 7));
        const OnDevice<float> bias(stream, RandomValues(width, 8));
        const OnDevice<float> out(stream, y);
        const GpuNorm norm{kind, weight.data(), bias.data(), kEpsilon};
        GpuAddNormRows(stream, norm, x.data(), y_device.data(), 2, static_cast<int64_t>(width),
                       out.data());
        GpuAdd(stream, two_steps.data(), y_device.data(), n);
        EXPECT_EQ(x.Read(), two_steps.Read());
        GpuNormRows(stream, norm, two_steps.data(), 2, static_cast<int64_t>(width),
                    two_steps.data());
        EXPECT_EQ(out.Read(), two_steps.Read());
      });
    }
  }
}

TEST_F(GpuNormsTest, ZeroStaysZero) {
  Stream stream;
  const OnDevice<float> weight(stream, std::vector<float>(100, 2.0f));
  for (const GpuNormKind kind : kKinds) {
    const OnDevice<float> x(stream, std::vector<float>(100, 0.0f));
    GpuNormRows(stream, {kind, weight.data(), nullptr, kEpsilon}, x.data(), 1, 100, x.data());
    EXPECT_EQ(x.Read(), std::vector<float>(100, 0.0f));
  }
}

TEST_F(GpuNormsTest, WithoutAWeightRowsStay) {
  Stream stream;
  const std::vector<float> x = RandomValues(3 * 40, 1), y = RandomValues(3 * 40, 2);
  const OnDevice<float> x_device(stream, x), y_device(stream, y), out(stream, y);
  GpuNormRows(stream, {}, x_device.data(), 3, 40, out.data());
  EXPECT_EQ(out.Read(), x);
  GpuNormParts(stream, {.kind = GpuNormKind::kLayer}, false, y_device.data(), 3, 4, 10, out.data());
  EXPECT_EQ(out.Read(), y);
  GpuAddNormRows(stream, {}, x_device.data(), y_device.data(), 3, 40, out.data());
  EXPECT_EQ(out.Read(), x_device.Read());
  EXPECT_EQ(out.Read()[7], x[7] + y[7]);
}

// Heads of three rows, in place, with shared weights and with their own.
TEST_F(GpuNormsTest, PartsAreNormedByThemselves) {
  constexpr size_t kRows = 3;
  for (const size_t width : {1, 31, 64, 130}) {
    for (const size_t n_parts : {1, 7}) {
      for (const bool own : {false, true}) {
        for (const GpuNormKind kind : kKinds) {
          InEveryOrderIf(width == 31, [=] {
            Stream stream;
            const size_t row = n_parts * width;
            const std::vector<float> x = RandomValues(kRows * row, 1);
            const std::vector<float> weight = RandomValues(own ? row : width, 2);
            const std::vector<float> bias = RandomValues(own ? row : width, 3);
            const OnDevice<float> x_device(stream, x);
            const OnDevice<float> weight_device(stream, weight), bias_device(stream, bias);
            GpuNormParts(stream, {kind, weight_device.data(), bias_device.data(), kEpsilon}, own,
                         x_device.data(), kRows, static_cast<int64_t>(n_parts),
                         static_cast<int64_t>(width), x_device.data());
            const std::vector<float> y = x_device.Read();
            for (size_t at = 0; at < y.size(); at += width) {
              const size_t first = own ? at % row : 0;
              ExpectNorm(kind, x.data() + at, weight.data() + first, bias.data() + first, width,
                         y.data() + at);
            }
          });
        }
      }
    }
  }
}

}  // namespace
}  // namespace thermocline
