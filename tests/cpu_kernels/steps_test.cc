#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "runtime/core/half.h"
#include "tests/cpu_kernels/kernel_reference.h"

namespace thermocline::testing {
namespace {

constexpr float kSentinel = -12345.5F;
constexpr int64_t kLengths[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 257, 1000};

class StepsTest : public ::testing::TestWithParam<const KernelTable*> {
 protected:
  const KernelTable& kernels() const { return *GetParam(); }
};

double Relative(double reference, double tolerance) { return std::fabs(reference) * tolerance; }

TEST_P(StepsTest, RmsNormMatchesDoubleAlsoInPlace) {
  std::mt19937 rng(1);
  for (const int64_t n : kLengths) {
    const std::vector<float> x = RandomFloats(&rng, n, 30.0F);
    const std::vector<float> weight = RandomFloats(&rng, n);
    std::vector<float> out(static_cast<size_t>(n) + 1, kSentinel);
    kernels().rms_norm(x.data(), weight.data(), n, 1e-5F, out.data());
    EXPECT_EQ(out.back(), kSentinel);
    std::vector<float> in_place = x;
    kernels().rms_norm(in_place.data(), weight.data(), n, 1e-5F, in_place.data());
    double squares = 0;
    for (const float value : x) squares += static_cast<double>(value) * value;
    const double norm = std::sqrt(squares / static_cast<double>(n) + 1e-5F);
    for (size_t i = 0; i < x.size(); ++i) {
      const double reference = x[i] / norm * weight[i];
      ASSERT_NEAR(out[i], reference, Relative(reference, 2e-6));
      ASSERT_EQ(in_place[i], out[i]);
    }
  }
}

TEST_P(StepsTest, RopeTurnsBothPairings) {
  std::mt19937 rng(2);
  for (const RopePairing pairing : {RopePairing::kAdjacent, RopePairing::kHalves}) {
    for (const int64_t rot_dim : {0, 2, 4, 6, 8, 10, 16, 18, 20, 32, 34, 64, 80, 128}) {
      const int64_t half = rot_dim / 2;
      const std::vector<float> head = RandomFloats(&rng, rot_dim + 3);
      std::vector<float> cosines;
      std::vector<float> sines;
      for (int64_t i = 0; i < half; ++i) {
        cosines.push_back(static_cast<float>(std::cos(0.3 * static_cast<double>(i + 1))));
        sines.push_back(static_cast<float>(std::sin(0.3 * static_cast<double>(i + 1))));
      }
      std::vector<float> turned = head;
      kernels().rope(pairing, turned.data(), rot_dim, cosines.data(), sines.data());
      std::vector<double> expected(head.begin(), head.end());
      for (int64_t i = 0; i < half; ++i) {
        const bool adjacent = pairing == RopePairing::kAdjacent;
        const auto first = static_cast<size_t>(adjacent ? 2 * i : i);
        const auto second = static_cast<size_t>(adjacent ? 2 * i + 1 : i + half);
        const double c = cosines[static_cast<size_t>(i)];
        const double s = sines[static_cast<size_t>(i)];
        expected[first] = head[first] * c - head[second] * s;
        expected[second] = head[first] * s + head[second] * c;
      }
      for (size_t i = 0; i < head.size(); ++i) ASSERT_NEAR(turned[i], expected[i], 1e-6) << rot_dim;
      for (size_t i = static_cast<size_t>(rot_dim); i < head.size(); ++i) {
        ASSERT_EQ(turned[i], head[i]);
      }
    }
  }
}

void ExpectSoftmax(const std::vector<float>& x, const std::vector<float>& got) {
  const double largest = *std::max_element(x.begin(), x.end());
  double sum = 0;
  for (const float value : x) sum += std::exp(static_cast<double>(value) - largest);
  for (size_t i = 0; i < x.size(); ++i) {
    const double reference = std::exp(static_cast<double>(x[i]) - largest) / sum;
    // exp(a - b) inherits the rounding of a - b: up to 2^-24 of |a - b| <= 90, so 90 * 6e-8.
    ASSERT_NEAR(got[i], reference, Relative(reference, 6e-6) + 1e-37) << i;
  }
}

TEST_P(StepsTest, SoftmaxMatchesDouble) {
  std::mt19937 rng(3);
  for (const int64_t n : kLengths) {
    for (const float scale : {0.0F, 1.0F, 20.0F, 1e4F}) {
      const std::vector<float> x = RandomFloats(&rng, n, scale);
      std::vector<float> got = x;
      got.push_back(kSentinel);
      kernels().softmax(got.data(), n);
      EXPECT_EQ(got.back(), kSentinel);
      ExpectSoftmax(x, got);
    }
  }
}

TEST_P(StepsTest, SoftmaxOfHugeAndMaskedValues) {
  for (const int64_t n : {2, 5, 16, 21, 40}) {
    std::vector<float> x(static_cast<size_t>(n), -INFINITY);
    x[static_cast<size_t>(n - 1)] = 3e38F;
    x[0] = 3e38F;
    kernels().softmax(x.data(), n);
    EXPECT_NEAR(x[0], 0.5, 1e-7);
    EXPECT_NEAR(x[static_cast<size_t>(n - 1)], 0.5, 1e-7);
    for (int64_t i = 1; i + 1 < n; ++i) EXPECT_EQ(x[static_cast<size_t>(i)], 0.0F);
  }
  std::vector<float> garbage = {1.0F, NAN, 2.0F};
  kernels().softmax(garbage.data(), 3);
  for (const float value : garbage) EXPECT_TRUE(std::isnan(value));
}

std::vector<uint16_t> RandomHalves(std::mt19937* rng, int64_t n) {
  std::vector<uint16_t> out;
  for (const float value : RandomFloats(rng, n)) out.push_back(F32ToF16(value));
  return out;
}

TEST_P(StepsTest, AttendMatchesDouble) {
  std::mt19937 rng(4);
  for (const int64_t head_dim : {8, 20, 64, 80, 128}) {
    for (const int64_t n_kv : {1, 2, 7, 33, 300}) {
      const int64_t stride = head_dim * 2 + 4;
      const std::vector<float> q = RandomFloats(&rng, head_dim);
      const std::vector<uint16_t> k = RandomHalves(&rng, n_kv * stride);
      const std::vector<uint16_t> v = RandomHalves(&rng, n_kv * stride);
      const float scale = 1.0F / std::sqrt(static_cast<float>(head_dim));
      std::vector<float> scores(static_cast<size_t>(n_kv) + 1, kSentinel);
      std::vector<float> out(static_cast<size_t>(head_dim) + 1, kSentinel);
      kernels().attend(q.data(), k.data(), v.data(), n_kv, stride, head_dim, scale, scores.data(),
                       out.data());
      EXPECT_EQ(scores.back(), kSentinel);
      EXPECT_EQ(out.back(), kSentinel);
      std::vector<double> weights(static_cast<size_t>(n_kv));
      double largest = -INFINITY;
      for (int64_t p = 0; p < n_kv; ++p) {
        double dot = 0;
        for (int64_t i = 0; i < head_dim; ++i) {
          dot += q[static_cast<size_t>(i)] * DecodeHalf(k[static_cast<size_t>(p * stride + i)]);
        }
        weights[static_cast<size_t>(p)] = dot * scale;
        largest = std::max(largest, dot * scale);
      }
      double sum = 0;
      for (double& weight : weights) sum += weight = std::exp(weight - largest);
      for (int64_t i = 0; i < head_dim; ++i) {
        double reference = 0;
        double magnitudes = 0;
        for (int64_t p = 0; p < n_kv; ++p) {
          const double term = weights[static_cast<size_t>(p)] / sum *
                              DecodeHalf(v[static_cast<size_t>(p * stride + i)]);
          reference += term;
          magnitudes += std::fabs(term);
        }
        ASSERT_NEAR(out[static_cast<size_t>(i)], reference, 4e-6 * magnitudes);
      }
    }
  }
}

TEST_P(StepsTest, ActivationsIncludingExtremes) {
  std::mt19937 rng(5);
  std::vector<float> x = RandomFloats(&rng, 1003, 5.0F);
  for (const float value : {0.0F, -0.0F, 1e-30F, -1e-30F, 20.0F, -20.0F, 87.0F, -87.0F, 88.5F,
                            -88.5F, 89.0F, -89.0F, 104.0F, -104.0F, 1e4F, -1e4F, 3e38F, -3e38F}) {
    x.push_back(value);
  }
  const auto n = static_cast<int64_t>(x.size());
  std::vector<float> silu = x;
  std::vector<float> relu = x;
  std::vector<float> relu_sqr = x;
  kernels().activate(Activation::kSilu, silu.data(), n);
  kernels().activate(Activation::kRelu, relu.data(), n);
  kernels().activate(Activation::kReluSqr, relu_sqr.data(), n);
  for (size_t i = 0; i < x.size(); ++i) {
    const double value = x[i];
    const double reference = value / (1.0 + std::exp(-value));
    // Below -86 the result is smaller than 2e-36 and may become zero.
    ASSERT_NEAR(silu[i], reference, Relative(reference, 1e-6) + (value < -86 ? 2e-36 : 0)) << x[i];
    ASSERT_EQ(relu[i], x[i] > 0 ? x[i] : 0.0F);
    ASSERT_EQ(relu_sqr[i], x[i] > 0 ? x[i] * x[i] : 0.0F);
  }
  for (const Activation activation : {Activation::kSilu, Activation::kRelu, Activation::kReluSqr}) {
    std::vector<float> garbage(20, NAN);
    garbage.push_back(kSentinel);
    kernels().activate(activation, garbage.data(), 20);
    for (int i = 0; i < 20; ++i) EXPECT_TRUE(std::isnan(garbage[static_cast<size_t>(i)]));
    EXPECT_EQ(garbage.back(), kSentinel);
  }
}

TEST_P(StepsTest, MultiplyAndAdd) {
  std::mt19937 rng(6);
  for (int64_t n = 0; n <= 50; ++n) {
    const std::vector<float> x = RandomFloats(&rng, n + 1);
    const std::vector<float> y = RandomFloats(&rng, n + 1);
    std::vector<float> product = x;
    std::vector<float> sum = x;
    kernels().multiply(product.data(), y.data(), n);
    kernels().add(sum.data(), y.data(), n);
    for (size_t i = 0; i < static_cast<size_t>(n); ++i) {
      ASSERT_EQ(product[i], x[i] * y[i]);
      ASSERT_EQ(sum[i], x[i] + y[i]);
    }
    EXPECT_EQ(product.back(), x.back());
    EXPECT_EQ(sum.back(), x.back());
  }
}

TEST_P(StepsTest, CompactNonzero) {
  std::mt19937 rng(7);
  for (const double density : {0.0, 0.1, 0.5, 1.0}) {
    std::bernoulli_distribution active(density);
    for (int64_t n = 0; n <= 70; ++n) {
      std::vector<float> values(static_cast<size_t>(n), 0.0F);
      std::vector<int32_t> expected;
      for (size_t i = 0; i < values.size(); ++i) {
        if (i % 5 == 0) values[i] = -0.0F;
        if (!active(rng)) continue;
        values[i] = i % 7 == 0 ? NAN : i % 7 == 1 ? 1e-45F : -1.0F;
        expected.push_back(1000 + static_cast<int32_t>(i));
      }
      std::vector<int32_t> indices(static_cast<size_t>(n) + 17, -1);
      const int64_t count = kernels().compact_nonzero(values.data(), n, 1000, indices.data());
      ASSERT_EQ(indices.back(), -1);
      indices.resize(static_cast<size_t>(count));
      ASSERT_EQ(indices, expected);
    }
  }
}

TEST_P(StepsTest, SumWords) {
  std::mt19937_64 rng(8);
  std::vector<uint64_t> words;
  uint64_t expected = 0;
  for (int64_t n = 0; n <= 100; ++n) {
    EXPECT_EQ(kernels().sum_words(words.data(), n), expected);
    words.push_back(rng());
    expected += words.back();
  }
}

INSTANTIATE_TEST_SUITE_P(Tables, StepsTest,
                         ::testing::ValuesIn(AvailableCpuKernels().begin(),
                                             AvailableCpuKernels().end()),
                         [](const auto& test) { return TableName(*test.param); });

}  // namespace
}  // namespace thermocline::testing
