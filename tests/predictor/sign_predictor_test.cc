#include "predictor/sign_predictor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace thermocline {
namespace {

std::vector<float> RandomFloats(size_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> out(n);
  for (float& value : out) value = normal(random);
  return out;
}

// Returns positive minus negative products of row i.
float Score(const std::vector<float>& w, const std::vector<float>& x, size_t i) {
  float score = 0;
  for (size_t k = 0; k < x.size(); ++k) score += w[i * x.size() + k] * x[k] > 0 ? 1.0F : -1.0F;
  return score;
}

TEST(SignPredictorTest, CountsProductsBySign) {
  constexpr int64_t kRows = 20;
  for (const int64_t d : {64, 100, 257}) {
    const auto w = RandomFloats(static_cast<size_t>(kRows * d), 1);
    const auto x = RandomFloats(static_cast<size_t>(d), 2);
    const auto bias = RandomFloats(kRows, 3);
    for (const bool biased : {false, true}) {
      SignRows rows(CpuKernels(), DenseView(w.data(), DType::kF32, kRows, d),
                    biased ? bias.data() : nullptr);
      rows.Pack(0, 7);
      rows.Pack(7, kRows);
      SignInput input;
      rows.Prepare(x.data(), &input);
      std::vector<int32_t> counts(kRows);
      std::vector<float> scores(kRows);
      rows.Score(input, 0, kRows, counts.data(), scores.data());
      double mean_x = 0;
      for (const float v : x) mean_x += std::abs(v) / static_cast<double>(d);
      for (size_t i = 0; i < kRows; ++i) {
        double mean_w = 0;
        for (size_t k = 0; k < x.size(); ++k) {
          mean_w += std::abs(w[i * x.size() + k]) / static_cast<double>(d);
        }
        const double expected = Score(w, x, i) + (biased ? bias[i] / (mean_w * mean_x) : 0);
        EXPECT_NEAR(scores[i], expected, 1e-4 * (1 + std::abs(expected)));
      }
    }
  }
}

TEST(SignPredictorTest, AlphaAndThresholdSayTheSame) {
  EXPECT_EQ(SignThreshold(1, 256), 0);
  for (const double alpha : {0.9, 1.0, 1.02, 1.2}) {
    const double threshold = SignThreshold(alpha, 256);
    EXPECT_NEAR(SignAlpha(threshold, 256), alpha, 1e-12);
    // SparseInfer's rule skips where alpha * positive < negative.
    for (double positive = 0; positive <= 256; ++positive) {
      const double negative = 256 - positive;
      if (std::abs(alpha * positive - negative) < 1e-9) continue;
      EXPECT_EQ(alpha * positive < negative, positive - negative < threshold);
    }
  }
}

}  // namespace
}  // namespace thermocline
