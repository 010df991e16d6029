// Tests Q6_K's quantiser.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/cpu_kernels/kernel_reference.h"

namespace thermocline::testing {
namespace {

std::vector<double> RoundTrip(const std::vector<float>& x) {
  const auto n = static_cast<int64_t>(x.size());
  std::vector<std::byte> row(static_cast<size_t>(RowBytes(DType::kQ6_K, n)) + 1, std::byte{0xa5});
  QuantizeRow(DType::kQ6_K, x.data(), n, row.data());
  EXPECT_EQ(row.back(), std::byte{0xa5});
  return DecodeRow(DType::kQ6_K, row.data(), n);
}

// Weights that the format can hold come back as they were. In each 16 one is the largest, -32, and
// one scale of the block is the largest, -128.
TEST(Q6KQuantizeTest, WeightsOnTheGridAreKept) {
  std::mt19937 rng(10);
  for (int trial = 0; trial < 50; ++trial) {
    std::vector<float> x(512);
    for (size_t i = 0; i < x.size(); ++i) {
      const size_t group = i / 16;
      const int scale = group % 16 == 3 ? -128 : static_cast<int>((group * 37 + 1) % 255) - 127;
      const int q = i % 16 == group % 5 ? -32 : static_cast<int>(rng() % 64) - 32;
      x[i] = static_cast<float>(scale * q) * 0x1p-13F;
    }
    EXPECT_THAT(x, ::testing::ElementsAreArray(RoundTrip(x)));
  }
}

// A step is about 1/30 of the largest at most. Rounding loses half of it. At the end of the range
// up to three steps are lost (34 of them, cut to 31), and an eighth (32 of 1/256) because the scale
// is rounded to a multiple of d: less than four.
TEST(Q6KQuantizeTest, NoWeightIsOffByMoreThanItsStepAllows) {
  std::mt19937 rng(11);
  for (const float scale : {1.0F, 1e-2F, 1e4F}) {
    const std::vector<float> x = RandomFloats(&rng, 4096, scale);
    const std::vector<double> decoded = RoundTrip(x);
    for (size_t b = 0; b < x.size(); b += 256) {
      double largest = 0;
      for (size_t i = b; i < b + 256; ++i) {
        largest = std::max(largest, std::fabs(static_cast<double>(x[i])));
      }
      for (size_t i = b; i < b + 256; ++i) {
        ASSERT_NEAR(decoded[i], x[i], 4.0 * largest / 30) << i;
      }
    }
  }
}

// ggml's quantiser leaves 1.78 % on normal weights (ggml_quantize_chunk of llama.cpp), Q8_0 0.54 %.
TEST(Q6KQuantizeTest, ErrorOnNormalWeights) {
  std::mt19937 rng(12);
  const std::vector<float> x = RandomFloats(&rng, 256 * 400);
  const std::vector<double> decoded = RoundTrip(x);
  double error = 0;
  double squares = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    error += std::pow(decoded[i] - x[i], 2);
    squares += std::pow(x[i], 2);
  }
  EXPECT_LT(std::sqrt(error / squares), 0.0175);
}

TEST(Q6KQuantizeTest, ZerosExtremesAndGarbage) {
  EXPECT_THAT(RoundTrip(std::vector<float>(512, 0.0F)), ::testing::Each(0.0));
  EXPECT_THAT(RoundTrip(std::vector<float>(256, 1e-45F)), ::testing::Each(0.0));
  EXPECT_THAT(RoundTrip(std::vector<float>(256, 1e-30F)), ::testing::Each(0.0));
  // d is no f16 any more, which must not come out as ordinary numbers.
  for (const double value : RoundTrip(std::vector<float>(256, 3e38F))) {
    EXPECT_FALSE(std::isfinite(value));
  }
  for (const float garbage : {NAN, INFINITY, -INFINITY}) {
    for (const size_t at : {size_t{0}, size_t{100}, size_t{255}}) {
      std::vector<float> x(512, 1.0F);
      x[at] = garbage;
      const std::vector<double> decoded = RoundTrip(x);
      for (size_t i = 0; i < 256; ++i) EXPECT_TRUE(std::isnan(decoded[i])) << i;
      for (size_t i = 256; i < 512; ++i) EXPECT_NEAR(decoded[i], 1.0, 1e-3);
    }
  }
}

}  // namespace
}  // namespace thermocline::testing
