#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "runtime/core/half.h"
#include "tests/cpu_kernels/kernel_reference.h"

namespace thermocline::testing {
namespace {

using Bytes = std::vector<int>;

Bytes Quantized(DType dtype, const std::vector<float>& x) {
  const auto n = static_cast<int64_t>(x.size());
  std::vector<std::byte> out(static_cast<size_t>(RowBytes(dtype, n)) + 1, std::byte{0xa5});
  QuantizeRow(dtype, x.data(), n, out.data());
  EXPECT_EQ(out.back(), std::byte{0xa5});
  Bytes bytes;
  for (size_t i = 0; i + 1 < out.size(); ++i) bytes.push_back(std::to_integer<int>(out[i]));
  return bytes;
}

// The largest magnitude is 127/64, so d = 1/64 = f16 0x2400 and x = q / 64.
TEST(QuantizeTest, Q8_0GoldenBytes) {
  std::vector<float> x(32, 0.0F);
  x[0] = 127.0F / 64;
  x[1] = -127.0F / 64;
  x[2] = 1.0F / 64;
  x[3] = -1.0F / 64;
  x[4] = 2.5F / 64;  // halves go away from zero
  x[5] = -2.5F / 64;
  x[6] = 2.4F / 64;
  x[31] = 100.0F / 64;
  Bytes expected(34, 0);
  expected[1] = 0x24;
  const int head[] = {127, 256 - 127, 1, 256 - 1, 3, 256 - 3, 2};
  std::copy(std::begin(head), std::end(head), expected.begin() + 2);
  expected[33] = 100;
  EXPECT_EQ(Quantized(DType::kQ8_0, x), expected);
}

// The value of largest magnitude is -8, so d = 1 = f16 0x3c00 and a nibble is trunc(x + 8.5).
TEST(QuantizeTest, Q4_0GoldenBytes) {
  std::vector<float> x(32, 0.0F);
  x[0] = -8.0F;   // 0
  x[16] = 7.0F;   // 15
  x[1] = 7.6F;    // 15, not 16
  x[17] = 0.5F;   // 9
  x[2] = 0.49F;   // 8
  x[18] = -0.5F;  // 8
  x[3] = -0.51F;  // 7
  x[19] = -7.5F;  // 1
  Bytes expected(18, 0x88);
  expected[0] = 0x00;
  expected[1] = 0x3c;
  expected[2] = 0xf0;
  expected[3] = 0x9f;
  expected[4] = 0x88;
  expected[5] = 0x17;
  EXPECT_EQ(Quantized(DType::kQ4_0, x), expected);
}

TEST(QuantizeTest, Q4_0ScaleTakesTheSignOfTheLargestValue) {
  std::vector<float> x(32, 0.0F);
  x[0] = 8.0F;  // d = -1: 8 is -1 * (0 - 8)
  const Bytes bytes = Quantized(DType::kQ4_0, x);
  EXPECT_EQ(bytes[1], 0xbc);
  EXPECT_EQ(bytes[2], 0x80);
}

// Values go from -8 to 7, so m = -8 = f16 0xc800, d = 15 / 15 and a nibble is trunc(x + 8.5).
TEST(QuantizeTest, Q4_1GoldenBytes) {
  std::vector<float> x(32, 0.0F);
  x[0] = -8.0F;   // 0
  x[16] = 7.0F;   // 15
  x[1] = 6.6F;    // 15
  x[17] = 0.5F;   // 9
  x[2] = 0.49F;   // 8
  x[18] = -0.5F;  // 8
  x[3] = -0.51F;  // 7
  x[19] = -7.5F;  // 1
  Bytes expected(20, 0x88);
  const int head[] = {0x00, 0x3c, 0x00, 0xc8, 0xf0, 0x9f, 0x88, 0x17};
  std::copy(std::begin(head), std::end(head), expected.begin());
  EXPECT_EQ(Quantized(DType::kQ4_1, x), expected);
}

TEST(QuantizeTest, Q4_1OfEqualWeightsIsTheirOffset) {
  Bytes expected(20, 0);
  expected[3] = 0xbc;  // m = -1
  EXPECT_EQ(Quantized(DType::kQ4_1, std::vector<float>(32, -1.0F)), expected);
}

TEST(QuantizeTest, ZerosAndGarbage) {
  for (const DType dtype : {DType::kQ8_0, DType::kQ5_1, DType::kQ5_0, DType::kQ4_1, DType::kQ4_0}) {
    const Bytes zeros = Quantized(dtype, std::vector<float>(64, 0.0F));
    EXPECT_EQ(zeros[0] | (zeros[1] & 0x7f), 0);
    for (const float garbage : {NAN, INFINITY, -INFINITY}) {
      std::vector<float> x(32, 1.0F);
      x[5] = garbage;
      const Bytes bytes = Quantized(dtype, x);
      EXPECT_TRUE(std::isnan(DecodeHalf(static_cast<uint16_t>(bytes[0] | bytes[1] << 8))));
    }
    Quantized(dtype, std::vector<float>(32, 1e-45F));  // must not overflow on the way
    Quantized(dtype, std::vector<float>(32, 3e38F));
    std::vector<float> wide(32, 3e38F);
    wide[7] = -3e38F;
    const Bytes bytes = Quantized(dtype, wide);
    const double d = DecodeHalf(static_cast<uint16_t>(bytes[0] | bytes[1] << 8));
    EXPECT_FALSE(std::isfinite(d));
  }
}

// Returns the bytes of 32 integers of four or five bits.
Bytes ReferenceIntegers(const std::vector<int>& q, bool five_bits) {
  Bytes out;
  for (size_t byte = 0; five_bits && byte < 4; ++byte) {
    int bits = 0;
    for (size_t i = 0; i < 8; ++i) bits += q[8 * byte + i] / 16 << i;
    out.push_back(bits);
  }
  for (size_t i = 0; i < 16; ++i) out.push_back(q[i] % 16 + q[i + 16] % 16 * 16);
  return out;
}

// Writes ggml's reference a second time, in double where it makes no difference.
Bytes ReferenceWithOffset(const float* x, int highest) {
  float low = x[0];
  float high = x[0];
  for (int i = 1; i < 32; ++i) {
    low = std::min(low, x[i]);
    high = std::max(high, x[i]);
  }
  const float d = (high - low) / static_cast<float>(highest);
  const float inverse = d != 0 ? 1.0F / d : 0.0F;
  const uint16_t scale = F32ToF16(d);
  const uint16_t offset = F32ToF16(low);
  std::vector<int> q;
  for (int i = 0; i < 32; ++i) {
    q.push_back(std::min(highest, static_cast<int>(std::floor((x[i] - low) * inverse + 0.5F))));
  }
  Bytes out = {scale & 255, scale >> 8, offset & 255, offset >> 8};
  const Bytes integers = ReferenceIntegers(q, highest == 31);
  out.insert(out.end(), integers.begin(), integers.end());
  return out;
}

Bytes ReferenceBlock(DType dtype, const float* x) {
  if (dtype == DType::kQ4_1) return ReferenceWithOffset(x, 15);
  if (dtype == DType::kQ5_1) return ReferenceWithOffset(x, 31);
  const bool is_q8 = dtype == DType::kQ8_0;
  const bool is_q5 = dtype == DType::kQ5_0;
  float largest = 0;
  for (int i = 0; i < 32; ++i) {
    if (std::fabs(x[i]) > std::fabs(largest)) largest = x[i];
  }
  const float lowest = is_q5 ? -16.0F : -8.0F;
  const float d = is_q8 ? std::fabs(largest) / 127.0F : largest / lowest;
  const float inverse = d != 0 ? 1.0F / d : 0.0F;
  const uint16_t half = F32ToF16(d);
  Bytes out = {half & 255, half >> 8};
  if (is_q8) {
    for (int i = 0; i < 32; ++i) out.push_back(static_cast<int>(std::lround(x[i] * inverse)) & 255);
    return out;
  }
  std::vector<int> q;
  for (int i = 0; i < 32; ++i) {
    const auto integer = static_cast<int>(std::floor(x[i] * inverse + (0.5F - lowest)));
    q.push_back(std::min(is_q5 ? 31 : 15, integer));
  }
  const Bytes integers = ReferenceIntegers(q, is_q5);
  out.insert(out.end(), integers.begin(), integers.end());
  return out;
}

TEST(QuantizeTest, MatchesASecondImplementation) {
  std::mt19937 rng(8);
  for (const DType dtype : {DType::kQ8_0, DType::kQ5_1, DType::kQ5_0, DType::kQ4_1, DType::kQ4_0}) {
    for (int trial = 0; trial < 3000; ++trial) {
      const std::vector<float> x = RandomFloats(&rng, 64, trial % 2 == 0 ? 1.0F : 1e-3F);
      Bytes expected = ReferenceBlock(dtype, x.data());
      const Bytes second = ReferenceBlock(dtype, x.data() + 32);
      expected.insert(expected.end(), second.begin(), second.end());
      ASSERT_EQ(Quantized(dtype, x), expected);
    }
  }
}

TEST(QuantizeTest, FloatTypesRoundOnce) {
  std::mt19937 rng(9);
  const std::vector<float> x = RandomFloats(&rng, 37);
  const Bytes f16 = Quantized(DType::kF16, x);
  const Bytes bf16 = Quantized(DType::kBF16, x);
  const Bytes f32 = Quantized(DType::kF32, x);
  for (size_t i = 0; i < x.size(); ++i) {
    EXPECT_EQ(f16[2 * i] | f16[2 * i + 1] << 8, F32ToF16(x[i]));
    EXPECT_EQ(bf16[2 * i] | bf16[2 * i + 1] << 8, F32ToBf16(x[i]));
    uint32_t bits = 0;
    std::memcpy(&bits, &x[i], 4);
    EXPECT_EQ(static_cast<uint32_t>(f32[4 * i + 3]), bits >> 24);
  }
}

}  // namespace
}  // namespace thermocline::testing
