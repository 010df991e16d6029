#include "gpu_kernels/tokens/rms_norm.h"

#include <cmath>
#include <limits>

#include "gpu_kernels/tokens/elementwise.h"
#include "tests/gpu_kernels/gpu_test.h"
#include "tests/gpu_kernels/random_values.h"

namespace thermocline {
namespace {

using GpuRmsNormTest = GpuTest;

constexpr float kEpsilon = 1e-5f;
constexpr double kUnit = std::numeric_limits<float>::epsilon() / 2;

// In double. A sum of n squares in fp32 is off by at most n units of itself, the scale by half of
// that; root, division and two products add a few.
void ExpectNorm(const std::vector<float>& x, const std::vector<float>& weight,
                const std::vector<float>& y) {
  const size_t width = weight.size();
  for (size_t token = 0; token < x.size() / width; ++token) {
    double sum = 0;
    for (size_t i = 0; i < width; ++i) sum += double{x[token * width + i]} * x[token * width + i];
    const double scale = 1 / std::sqrt(sum / static_cast<double>(width) + double{kEpsilon});
    const double bound = (static_cast<double>(width) / 2 + 8) * kUnit;
    for (size_t i = 0; i < width; ++i) {
      const double expected = x[token * width + i] * scale * weight[i];
      ASSERT_NEAR(y[token * width + i], expected, bound * std::abs(expected) + 1e-30)
          << "token " << token << ", element " << i << " of " << width;
    }
  }
}

TEST_F(GpuRmsNormTest, EqualsTheReferenceWhateverTheWidth) {
  for (const size_t width : {1, 31, 33, 512, 513, 2560}) {
    for (const size_t n_tokens : {1, 3}) {
      InEveryOrder([=] {
        Stream stream;
        const std::vector<float> x = RandomValues(n_tokens * width, 1);
        const std::vector<float> weight = RandomValues(width, 2);
        const OnDevice<float> x_device(stream, x);
        const OnDevice<float> weight_device(stream, weight);
        const OnDevice<float> y_device(stream, std::vector<float>(n_tokens * width));
        GpuRmsNorm(stream, y_device.data(), x_device.data(), weight_device.data(), kEpsilon,
                   static_cast<int64_t>(n_tokens), static_cast<int64_t>(width));
        ExpectNorm(x, weight, y_device.Read());
      });
    }
  }
}

TEST_F(GpuRmsNormTest, MayWriteOverItsInput) {
  Stream stream;
  const std::vector<float> x = RandomValues(2 * 257, 3);
  const std::vector<float> weight = RandomValues(257, 4);
  const OnDevice<float> both(stream, x);
  const OnDevice<float> weight_device(stream, weight);
  GpuRmsNorm(stream, both.data(), both.data(), weight_device.data(), kEpsilon, 2, 257);
  ExpectNorm(x, weight, both.Read());
}

TEST_F(GpuRmsNormTest, AddedAndNormedInOneOpAreTheSameBits) {
  for (const size_t width : {1, 33, 512, 2560}) {
    InEveryOrder([=] {
      Stream stream;
      const auto n = static_cast<int64_t>(2 * width);
      const std::vector<float> y = RandomValues(2 * width, 6);
      const OnDevice<float> x(stream, RandomValues(2 * width, 5));
      const OnDevice<float> two_steps(stream, RandomValues(2 * width, 5));
      const OnDevice<float> y_device(stream, y);
      const OnDevice<float> weight(stream, RandomValues(width, 7));
      const OnDevice<float> out(stream, y);
      GpuAddRmsNorm(stream, x.data(), y_device.data(), weight.data(), kEpsilon, 2,
                    static_cast<int64_t>(width), out.data());
      GpuAdd(stream, two_steps.data(), y_device.data(), n);
      EXPECT_EQ(x.Read(), two_steps.Read());
      GpuRmsNorm(stream, two_steps.data(), two_steps.data(), weight.data(), kEpsilon, 2,
                 static_cast<int64_t>(width));
      EXPECT_EQ(out.Read(), two_steps.Read());
    });
  }
}

TEST_F(GpuRmsNormTest, ZeroStaysZero) {
  Stream stream;
  const OnDevice<float> x(stream, std::vector<float>(100, 0.0f));
  const OnDevice<float> weight(stream, std::vector<float>(100, 2.0f));
  GpuRmsNorm(stream, x.data(), x.data(), weight.data(), kEpsilon, 1, 100);
  EXPECT_EQ(x.Read(), std::vector<float>(100, 0.0f));
}

}  // namespace
}  // namespace thermocline
