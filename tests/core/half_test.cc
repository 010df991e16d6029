#include "runtime/core/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

namespace thermocline {
namespace {

// Returns the value of a format with `fraction_bits` and a least exponent that lies nearest to x
// (ties to even), in double, where scaling by powers of two is exact.
double Nearest(double x, int fraction_bits, int least_exponent, double largest) {
  if (x == 0 || !std::isfinite(x)) return x;
  const int exponent = std::max(std::ilogb(x), least_exponent);
  const double unit = std::ldexp(1.0, exponent - fraction_bits);
  const double rounded = std::nearbyint(x / unit) * unit;
  return std::fabs(rounded) > largest ? std::copysign(HUGE_VAL, x) : rounded;
}

// Returns bit patterns of every class: uniform patterns, and values around the edges of f16.
float SomeFloat(std::mt19937& random, int i) {
  const auto bits = static_cast<uint32_t>(random());
  if (i % 2 == 0) return std::bit_cast<float>(bits);
  const uint32_t exponent = 100 + random() % 45;                   // 2^-27 to 2^17
  const uint32_t coarse = i % 4 == 1 ? 0x807fffffU : 0x807ff000U;  // many exact ties
  return std::bit_cast<float>((bits & coarse) | (exponent << 23));
}

TEST(Half, EveryF16RoundTrips) {
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float value = F16ToF32(half);
    if (std::isnan(value)) {
      EXPECT_TRUE((bits & 0x7c00U) == 0x7c00U && (bits & 0x3ffU) != 0) << bits;
      EXPECT_TRUE(std::isnan(F16ToF32(F32ToF16(value)))) << bits;
    } else {
      ASSERT_EQ(F32ToF16(value), half) << bits;
    }
  }
}

TEST(Half, F16Values) {
  EXPECT_EQ(F16ToF32(0x3c00), 1.0F);
  EXPECT_EQ(F16ToF32(0xc000), -2.0F);
  EXPECT_EQ(F16ToF32(0x7bff), 65504.0F);
  EXPECT_EQ(F16ToF32(0x0400), 0x1p-14F);
  EXPECT_EQ(F16ToF32(0x03ff), 0x3ffp-24F);
  EXPECT_EQ(F16ToF32(0x0001), 0x1p-24F);
  EXPECT_TRUE(std::signbit(F16ToF32(0x8000)));
  EXPECT_EQ(F16ToF32(0xfc00), -std::numeric_limits<float>::infinity());
}

TEST(Half, F32ToF16AtTheEdges) {
  EXPECT_EQ(F32ToF16(65504.0F), 0x7bff);
  EXPECT_EQ(F32ToF16(std::nextafter(65520.0F, 0.0F)), 0x7bff);
  EXPECT_EQ(F32ToF16(65520.0F), 0x7c00);
  EXPECT_EQ(F32ToF16(-1e30F), 0xfc00);
  EXPECT_EQ(F32ToF16(0x1p-25F), 0x0000);  // a tie, which goes to even
  EXPECT_EQ(F32ToF16(std::nextafter(0x1p-25F, 1.0F)), 0x0001);
  EXPECT_EQ(F32ToF16(0x1.8p-24F), 0x0002);
  EXPECT_EQ(F32ToF16(0x1.ffep-15F), 0x0400);  // rounds up into the normal numbers
  EXPECT_EQ(F32ToF16(-0.0F), 0x8000);
  EXPECT_EQ(F32ToF16(std::numeric_limits<float>::denorm_min()), 0x0000);
}

TEST(Half, F32ToF16RoundsToNearestEven) {
  std::mt19937 random(1);
  for (int i = 0; i < 2'000'000; ++i) {
    const float value = SomeFloat(random, i);
    const uint16_t half = F32ToF16(value);
    if (std::isnan(value)) {
      ASSERT_TRUE(std::isnan(F16ToF32(half)));
      continue;
    }
    ASSERT_EQ(double{F16ToF32(half)}, Nearest(value, 10, -14, 65504)) << value;
    ASSERT_EQ(half >> 15, std::signbit(value) ? 1 : 0);
  }
}

#ifdef __FLT16_MANT_DIG__
TEST(Half, F32ToF16AsTheCompilerDoes) {
  std::mt19937 random(2);
  for (int i = 0; i < 2'000'000; ++i) {
    const float value = SomeFloat(random, i);
    if (std::isnan(value)) continue;
    ASSERT_EQ(F32ToF16(value), std::bit_cast<uint16_t>(static_cast<_Float16>(value))) << value;
  }
}
#endif

TEST(Half, EveryBf16RoundTrips) {
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const float value = Bf16ToF32(static_cast<uint16_t>(bits));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(Bf16ToF32(F32ToBf16(value)))) << bits;
    } else {
      ASSERT_EQ(F32ToBf16(value), bits);
    }
  }
}

TEST(Half, F32ToBf16RoundsToNearestEven) {
  std::mt19937 random(3);
  const double largest = Bf16ToF32(0x7f7f);
  for (int i = 0; i < 2'000'000; ++i) {
    const float value = SomeFloat(random, i);
    const float back = Bf16ToF32(F32ToBf16(value));
    if (std::isnan(value)) {
      ASSERT_TRUE(std::isnan(back));
      continue;
    }
    ASSERT_EQ(double{back}, Nearest(value, 7, -126, largest)) << value;
  }
  EXPECT_EQ(F32ToBf16(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_TRUE(std::isnan(Bf16ToF32(F32ToBf16(std::bit_cast<float>(0x7f800001U)))));
}

}  // namespace
}  // namespace thermocline
