#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>

#include "runtime/core/half.h"
#include "tests/cpu_kernels/kernel_reference.h"

namespace thermocline::testing {
namespace {

class ConvertTest : public ::testing::TestWithParam<const KernelTable*> {
 protected:
  const KernelTable& kernels() const { return *GetParam(); }
};

std::vector<float> InterestingFloats() {
  std::vector<float> values = {0.0F,     -0.0F,      1.0F,     65504.0F,  65519.99F,
                               65520.0F, 1e-8F,      2.98e-8F, 5.96e-8F,  6.1e-5F,
                               3.4e38F,  -3.4e38F,   INFINITY, -INFINITY, NAN,
                               1e-40F,   1.0009765F, 2049.0F,  2051.0F,   0.333333F};
  std::mt19937 rng(1);
  for (int i = 0; i < 100000; ++i)
    values.push_back(std::bit_cast<float>(static_cast<uint32_t>(rng())));
  return values;
}

TEST_P(ConvertTest, F32ToHalvesRoundsToNearestEven) {
  const std::vector<float> x = InterestingFloats();
  const auto n = static_cast<int64_t>(x.size());
  std::vector<uint16_t> f16(x.size());
  std::vector<uint16_t> bf16(x.size());
  kernels().f32_to_f16(x.data(), n, f16.data());
  kernels().f32_to_bf16(x.data(), n, bf16.data());
  for (size_t i = 0; i < x.size(); ++i) {
    if (std::isnan(x[i])) {
      EXPECT_TRUE(std::isnan(F16ToF32(f16[i])));
      EXPECT_TRUE(std::isnan(Bf16ToF32(bf16[i])));
    } else {
      ASSERT_EQ(f16[i], F32ToF16(x[i])) << x[i];
      ASSERT_EQ(bf16[i], F32ToBf16(x[i])) << x[i];
    }
  }
}

TEST_P(ConvertTest, EveryHalfDecodesExactly) {
  std::vector<uint16_t> bits(65536);
  for (size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<uint16_t>(i);
  std::vector<float> out(bits.size());
  kernels().dequantize_f32(DType::kF16, reinterpret_cast<const std::byte*>(bits.data()), 0, 65536,
                           out.data());
  for (size_t i = 0; i < bits.size(); ++i) {
    const double expected = DecodeHalf(bits[i]);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(out[i])) << i;
    } else {
      ASSERT_EQ(out[i], expected) << i;
    }
  }
}

TEST_P(ConvertTest, ShortVectorsWriteNothingBeyond) {
  std::mt19937 rng(2);
  for (int64_t n = 0; n <= 40; ++n) {
    const std::vector<float> x = RandomFloats(&rng, n);
    std::vector<uint16_t> out(static_cast<size_t>(n) + 1, 0xabcd);
    kernels().f32_to_f16(x.data(), n, out.data());
    EXPECT_EQ(out.back(), 0xabcd);
    kernels().f32_to_bf16(x.data(), n, out.data());
    EXPECT_EQ(out.back(), 0xabcd);
    for (size_t i = 0; i < x.size(); ++i) EXPECT_EQ(out[i], F32ToBf16(x[i]));
  }
}

TEST_P(ConvertTest, DequantizesAnyRangeOfColumnsExactly) {
  std::mt19937 rng(3);
  for (const DType dtype : kWeightDTypes) {
    for (const int64_t n_cols : ColumnCounts(dtype)) {
      const Matrix w(dtype, 1, n_cols, 0, &rng);
      const int64_t begin = IsQuantised(dtype) ? n_cols / 64 * 32 : n_cols / 3;
      const int64_t n = n_cols - begin;
      std::vector<float> f32(static_cast<size_t>(n) + 1, -7.0F);
      kernels().dequantize_f32(dtype, w.data(), begin, n_cols, f32.data());
      for (int64_t i = 0; i < n; ++i) {
        const auto expected = static_cast<float>(w.decoded(0)[static_cast<size_t>(begin + i)]);
        ASSERT_EQ(f32[static_cast<size_t>(i)], expected) << DTypeName(dtype);
      }
      EXPECT_EQ(f32.back(), -7.0F);
    }
  }
}

// The block has d = 0.5, m = -1.25 and nibbles 0 to 15 and back.
TEST_P(ConvertTest, Q4_1GoldenWeights) {
  std::vector<std::byte> block = {std::byte{0x00}, std::byte{0x38}, std::byte{0x00},
                                  std::byte{0xbd}};
  for (int i = 0; i < 16; ++i) block.push_back(static_cast<std::byte>(i | (15 - i) << 4));
  std::vector<float> weights(32);
  kernels().dequantize_f32(DType::kQ4_1, block.data(), 0, 32, weights.data());
  for (int i = 0; i < 16; ++i) {
    EXPECT_EQ(weights[static_cast<size_t>(i)], 0.5F * static_cast<float>(i) - 1.25F);
    EXPECT_EQ(weights[static_cast<size_t>(16 + i)], 0.5F * static_cast<float>(15 - i) - 1.25F);
  }
}

std::vector<std::byte> Q8Row(const KernelTable& kernels, const std::vector<float>& x) {
  const auto n = static_cast<int64_t>(x.size());
  std::vector<std::byte> row(static_cast<size_t>(RowBytes(DType::kQ8_0, n)) + 1, std::byte{0xa5});
  kernels.f32_to_q8_0(x.data(), n, row.data());
  EXPECT_EQ(row.back(), std::byte{0xa5});
  row.pop_back();
  return row;
}

TEST_P(ConvertTest, Q8RowsRoundToNearest) {
  std::mt19937 rng(4);
  for (const float scale : {1.0F, 1e-3F, 1e-6F, 1e4F}) {
    for (const int64_t n : {32, 64, 96, 128, 1024}) {
      const std::vector<float> x = RandomFloats(&rng, n, scale);
      const std::vector<double> decoded = DecodeRow(DType::kQ8_0, Q8Row(kernels(), x).data(), n);
      for (size_t b = 0; b < x.size(); b += 32) {
        double largest = 0;
        for (size_t i = b; i < b + 32; ++i) {
          largest = std::max(largest, std::fabs(static_cast<double>(x[i])));
        }
        const double d = largest / 127;
        // Rounding is off by half a step. f16 moves the step by 2^-11 of it, below f16's normal
        // numbers by up to 2^-25, and 127 steps with it. 1e-5 is for the f32 arithmetic.
        const double allowed = 0.50001 * d + 127 * std::max(0x1p-11 * d, 0x1p-25);
        for (size_t i = b; i < b + 32; ++i) ASSERT_NEAR(decoded[i], x[i], allowed) << scale;
      }
    }
  }
}

TEST_P(ConvertTest, Q8RowsAreTheSameBytesWithEveryTable) {
  std::mt19937 rng(5);
  for (int trial = 0; trial < 500; ++trial) {
    std::vector<float> x = RandomFloats(&rng, 64, trial % 2 == 0 ? 1.0F : 1e-7F);
    // These values lie halfway between two steps: the largest is 127 steps of 1/64.
    if (trial % 5 == 0) {
      x[0] = 127.0F / 64;
      for (size_t i = 1; i < 32; ++i) x[i] = (static_cast<float>(i) - 15.5F) / 64;
    }
    EXPECT_EQ(Q8Row(kernels(), x), Q8Row(*AvailableCpuKernels().front(), x));
  }
}

TEST_P(ConvertTest, Q8RowsOfZerosExtremesAndGarbage) {
  const auto decode = [&](const std::vector<float>& x) {
    return DecodeRow(DType::kQ8_0, Q8Row(kernels(), x).data(), static_cast<int64_t>(x.size()));
  };
  for (const double value : decode(std::vector<float>(64, 0.0F))) EXPECT_EQ(value, 0.0);
  for (const double value : decode(std::vector<float>(32, 1e-45F))) EXPECT_EQ(value, 0.0);
  // The step no longer is an f16: it must not come out as an ordinary number.
  for (const double value : decode(std::vector<float>(32, 3e38F))) {
    EXPECT_FALSE(std::isfinite(value));
  }
  for (const float garbage : {NAN, INFINITY, -INFINITY}) {
    for (const size_t at : {size_t{0}, size_t{7}, size_t{31}}) {
      std::vector<float> x(64, 1.0F);
      x[at] = garbage;
      const std::vector<double> decoded = decode(x);
      for (size_t i = 0; i < 32; ++i) EXPECT_TRUE(std::isnan(decoded[i])) << i;
      for (size_t i = 32; i < 64; ++i) EXPECT_NEAR(decoded[i], 1.0, 1e-3);
    }
  }
}

TEST_P(ConvertTest, PreparedBytesAreWholeCacheLines) {
  for (const DType dtype : kWeightDTypes) {
    const VectorForm form = kernels().vector_form(dtype);
    for (const int64_t n : {32, 64, 96, 4096, 11008}) {
      EXPECT_EQ(kernels().prepared_bytes(form, n) % 64, 0);
      const bool is_int8 = form == VectorForm::kQ8 || form == VectorForm::kQ8Super;
      EXPECT_GE(kernels().prepared_bytes(form, n), is_int8 ? n : 4 * n);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Tables, ConvertTest, ::testing::ValuesIn(TablesOfAllBits()),
                         [](const auto& test) { return TableName(*test.param); });

}  // namespace
}  // namespace thermocline::testing
