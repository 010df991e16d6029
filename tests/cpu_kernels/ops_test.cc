#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <utility>

#include "tests/cpu_kernels/kernel_reference.h"

namespace thermocline::testing {
namespace {

constexpr float kSentinel = -12345.5F;
constexpr int64_t kLengths[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 257, 1000};

class OpsTest : public ::testing::TestWithParam<const KernelTable*> {
 protected:
  const KernelTable& kernels() const { return *GetParam(); }
};

double Relative(double reference, double tolerance) { return std::fabs(reference) * tolerance; }

TEST_P(OpsTest, RmsNormMatchesDoubleAlsoInPlace) {
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

// An offset far from 0 shows sums of squares that cancel.
TEST_P(OpsTest, LayerNormMatchesDoubleAlsoInPlaceAndWithoutBias) {
  std::mt19937 rng(11);
  for (const int64_t n : kLengths) {
    for (const float offset : {0.0F, 100.0F}) {
      std::vector<float> x = RandomFloats(&rng, n, 3.0F);
      for (float& value : x) value += offset;
      const std::vector<float> weight = RandomFloats(&rng, n);
      const std::vector<float> bias = RandomFloats(&rng, n);
      std::vector<float> out(static_cast<size_t>(n) + 1, kSentinel);
      kernels().layer_norm(x.data(), weight.data(), bias.data(), n, 1e-5F, out.data());
      EXPECT_EQ(out.back(), kSentinel);
      std::vector<float> plain = x;
      kernels().layer_norm(plain.data(), weight.data(), nullptr, n, 1e-5F, plain.data());
      double mean = 0;
      for (const float value : x) mean += value / static_cast<double>(n);
      double variance = 0;
      for (const float value : x) variance += (value - mean) * (value - mean);
      const double norm = std::sqrt(variance / static_cast<double>(n) + 1e-5F);
      // The mean in f32 is off by some of its own last bits.
      const double allowed = 2e-6 + 0x1p-22 * (1 + offset) / norm;
      for (size_t i = 0; i < x.size(); ++i) {
        const double reference = (x[i] - mean) / norm * weight[i];
        const double error = allowed * (std::fabs(weight[i]) + std::fabs(reference));
        ASSERT_NEAR(plain[i], reference, error) << n;
        ASSERT_NEAR(out[i], reference + bias[i], error + 1e-6 * std::fabs(bias[i])) << n;
      }
    }
  }
}

TEST_P(OpsTest, ScaleWithAndWithoutCap) {
  std::mt19937 rng(12);
  for (const int64_t n : kLengths) {
    const std::vector<float> x = RandomFloats(&rng, n, 200.0F);
    std::vector<float> scaled = x;
    std::vector<float> capped = x;
    scaled.push_back(kSentinel);
    capped.push_back(kSentinel);
    kernels().scale(scaled.data(), n, 0.3F, 0);
    kernels().scale(capped.data(), n, 0.3F, 50);
    for (size_t i = 0; i < x.size(); ++i) {
      ASSERT_EQ(scaled[i], x[i] * 0.3F);
      ASSERT_NEAR(capped[i], 50 * std::tanh(double{0.3F} * x[i] / 50), 50 * 6e-7);
    }
    EXPECT_EQ(scaled.back(), kSentinel);
    EXPECT_EQ(capped.back(), kSentinel);
  }
  std::vector<float> extremes = {3e38F, -3e38F, NAN, 0.0F};
  kernels().scale(extremes.data(), 4, 1.0F, 30);
  EXPECT_EQ(extremes[0], 30);
  EXPECT_EQ(extremes[1], -30);
  EXPECT_TRUE(std::isnan(extremes[2]));
  EXPECT_EQ(extremes[3], 0);
}

TEST_P(OpsTest, DropBelowKeepsTheThresholdItselfAndNaN) {
  for (int64_t n = 4; n < 40; ++n) {
    std::vector<float> x(static_cast<size_t>(n) + 1, 0.5F);
    x[0] = 0.01F;
    x[1] = std::nextafter(0.01F, 0.0F);
    x[2] = NAN;
    x[3] = -7;
    x.back() = -1;
    kernels().drop_below(x.data(), n, 0.01F);
    EXPECT_EQ(x[0], 0.01F);
    EXPECT_EQ(x[1], 0);
    EXPECT_TRUE(std::isnan(x[2]));
    EXPECT_EQ(x[3], 0);
    if (n > 4) {
      EXPECT_EQ(x[static_cast<size_t>(n) - 1], 0.5F);
    }
    EXPECT_EQ(x.back(), -1);
  }
}

TEST_P(OpsTest, RopeTurnsBothPairings) {
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

// Checks what is left of a softmax before its division: e^(scale x - m), and their sum.
void ExpectExpScores(const std::vector<float>& x, float scale, const std::vector<float>& got,
                     float sum, float m) {
  double largest = -INFINITY;
  for (const float value : x) largest = std::max(largest, static_cast<double>(value) * scale);
  ASSERT_NEAR(m, largest, Relative(largest, 0x1p-24));
  double reference_sum = 0;
  double error_of_sum = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double exponent = static_cast<double>(x[i]) * scale - m;
    const double reference = std::exp(exponent);
    // scale x and the difference are each rounded once, to 2^-24 of themselves, and e^ turns that
    // into a relative error; the polynomial adds 2e-7. Below -86.6 the result may become zero.
    const double exponent_error =
        0x1p-24 * (std::fabs(static_cast<double>(x[i]) * scale) + std::fabs(exponent));
    const double allowed = reference * (2 * exponent_error + 3e-7) + 3e-38;
    ASSERT_NEAR(got[i], reference, allowed) << x[i] << " times " << scale;
    reference_sum += got[i];
    error_of_sum += 0x1p-24 * static_cast<double>(x.size()) * got[i];
  }
  // The sum is compared with that of what was stored, so that only the additions count.
  ASSERT_NEAR(sum, reference_sum, error_of_sum);
  ASSERT_GE(sum, 1.0F);  // e^0 is one of the terms
}

TEST_P(OpsTest, ExpScoresMatchDouble) {
  std::mt19937 rng(3);
  for (const int64_t n : kLengths) {
    for (const float spread : {0.0F, 1.0F, 20.0F, 1e4F}) {
      for (const float scale : {1.0F, 0.125F, 0.0883883476F, 3.0F}) {
        const std::vector<float> x = RandomFloats(&rng, n, spread);
        std::vector<float> got = x;
        got.push_back(kSentinel);
        float m = kSentinel;
        const float sum = kernels().exp_scores(got.data(), n, scale, &m);
        ASSERT_EQ(got.back(), kSentinel);
        got.pop_back();
        ExpectExpScores(x, scale, got, sum, m);
      }
    }
  }
}

TEST_P(OpsTest, ExpScoresOfHugeAndMaskedValues) {
  for (const int64_t n : {2, 5, 16, 21, 40}) {
    std::vector<float> x(static_cast<size_t>(n), -INFINITY);
    x.front() = 3e38F;
    x.back() = 3e38F;
    float m = 0;
    EXPECT_EQ(kernels().exp_scores(x.data(), n, 0.5F, &m), 2.0F);
    EXPECT_EQ(m, 1.5e38F);
    EXPECT_EQ(x.front(), 1.0F);
    EXPECT_EQ(x.back(), 1.0F);
    for (int64_t i = 1; i + 1 < n; ++i) EXPECT_EQ(x[static_cast<size_t>(i)], 0.0F);
  }
}

TEST_P(OpsTest, ExpScoresLetNaNBeSeen) {
  for (const size_t n : {1, 3, 8, 16, 19, 40}) {
    for (size_t at = 0; at < n; ++at) {
      std::vector<float> x(n, 1.0F);
      x[at] = NAN;
      float m = 0;
      EXPECT_TRUE(std::isnan(kernels().exp_scores(x.data(), static_cast<int64_t>(n), 1.0F, &m)));
      EXPECT_TRUE(std::isnan(x[at])) << at << " of " << n;
    }
  }
}

TEST_P(OpsTest, ActivationsIncludingExtremes) {
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
  std::vector<float> gelu = x;
  std::vector<float> gelu_tanh = x;
  kernels().activate(Activation::kGelu, gelu.data(), n);
  kernels().activate(Activation::kGeluTanh, gelu_tanh.data(), n);
  for (size_t i = 0; i < x.size(); ++i) {
    const double value = x[i];
    const double reference = value / (1.0 + std::exp(-value));
    // Below -86 the result is smaller than 2e-36 and may become zero.
    ASSERT_NEAR(silu[i], reference, Relative(reference, 1e-6) + (value < -86 ? 2e-36 : 0)) << x[i];
    ASSERT_EQ(relu[i], x[i] > 0 ? x[i] : 0.0F);
    ASSERT_EQ(relu_sqr[i], x[i] > 0 ? x[i] * x[i] : 0.0F);
    // 1 + erf and 1 + tanh are off by up to 6e-7.
    const double allowed = 4e-7 * std::fabs(value) + 1e-6 * std::max(value, 0.0);
    ASSERT_NEAR(gelu[i], 0.5 * value * (1 + std::erf(value / std::sqrt(2.0))), allowed) << x[i];
    const double inner = std::sqrt(2 / M_PI) * (value + 0.044715 * value * value * value);
    ASSERT_NEAR(gelu_tanh[i], 0.5 * value * (1 + std::tanh(inner)), allowed) << x[i];
  }
  for (const Activation activation : {Activation::kSilu, Activation::kRelu, Activation::kReluSqr,
                                      Activation::kGelu, Activation::kGeluTanh}) {
    std::vector<float> garbage(20, NAN);
    garbage.push_back(kSentinel);
    kernels().activate(activation, garbage.data(), 20);
    for (int i = 0; i < 20; ++i) EXPECT_TRUE(std::isnan(garbage[static_cast<size_t>(i)]));
    EXPECT_EQ(garbage.back(), kSentinel);
  }
}

TEST_P(OpsTest, MultiplyAndAdd) {
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

TEST_P(OpsTest, CompactNonzero) {
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

TEST_P(OpsTest, CutBelow) {
  std::mt19937 rng(17);
  for (int64_t n = 0; n <= 70; ++n) {
    std::vector<float> x = RandomFloats(&rng, n);
    std::vector<float> factors = RandomFloats(&rng, n);
    for (float& factor : factors) factor = std::fabs(factor);
    if (n > 3) x[3] = NAN;
    if (n > 5) x[5] = 0.5F;  // the threshold itself is kept
    for (const float* of : {static_cast<const float*>(nullptr), std::as_const(factors).data()}) {
      std::vector<float> out(static_cast<size_t>(n) + 1, -7.0F);
      kernels().cut_below(x.data(), of, 0.5F, n, out.data());
      ASSERT_EQ(out.back(), -7.0F);
      for (size_t i = 0; i < x.size(); ++i) {
        const float score = of == nullptr ? std::fabs(x[i]) : std::fabs(x[i]) * of[i];
        if (std::isnan(x[i])) {
          ASSERT_TRUE(std::isnan(out[i]));
        } else {
          ASSERT_EQ(out[i], score < 0.5F ? 0.0F : x[i]) << "n " << n << ", element " << i;
        }
      }
      std::vector<float> in_place = x;
      kernels().cut_below(in_place.data(), of, 0.0F, n, in_place.data());
      if (n == 0) continue;
      ASSERT_EQ(std::memcmp(in_place.data(), x.data(), x.size() * sizeof(float)), 0);
    }
  }
}

TEST_P(OpsTest, SumWords) {
  std::mt19937_64 rng(8);
  std::vector<uint64_t> words;
  uint64_t expected = 0;
  for (int64_t n = 0; n <= 100; ++n) {
    EXPECT_EQ(kernels().sum_words(words.data(), n), expected);
    words.push_back(rng());
    expected += words.back();
  }
}

INSTANTIATE_TEST_SUITE_P(Tables, OpsTest,
                         ::testing::ValuesIn(AvailableCpuKernels().begin(),
                                             AvailableCpuKernels().end()),
                         [](const auto& test) { return TableName(*test.param); });

}  // namespace
}  // namespace thermocline::testing
