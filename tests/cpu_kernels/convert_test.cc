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
  for (const DType dtype : kDTypes) {
    for (const int64_t n_cols : ColumnCounts(dtype)) {
      const Matrix w(dtype, 1, n_cols, 0, &rng);
      const int64_t begin = IsQuantised(dtype) ? n_cols / 64 * 32 : n_cols / 3;
      const int64_t n = n_cols - begin;
      std::vector<float> f32(static_cast<size_t>(n) + 1, -7.0F);
      std::vector<uint16_t> bf16(static_cast<size_t>(n) + 1, 0xabcd);
      kernels().dequantize_f32(dtype, w.data(), begin, n_cols, f32.data());
      kernels().dequantize_bf16(dtype, w.data(), begin, n_cols, bf16.data());
      for (int64_t i = 0; i < n; ++i) {
        const auto expected = static_cast<float>(w.decoded(0)[static_cast<size_t>(begin + i)]);
        ASSERT_EQ(f32[static_cast<size_t>(i)], expected) << DTypeName(dtype);
        ASSERT_EQ(bf16[static_cast<size_t>(i)], F32ToBf16(expected)) << DTypeName(dtype);
      }
      EXPECT_EQ(f32.back(), -7.0F);
      EXPECT_EQ(bf16.back(), 0xabcd);
    }
  }
}

TEST_P(ConvertTest, PreparedBytesAreWholeCacheLines) {
  for (const DType dtype : kDTypes) {
    const VectorForm form = kernels().vector_form(dtype);
    for (const int64_t n : {32, 64, 96, 4096, 11008}) {
      EXPECT_EQ(kernels().prepared_bytes(form, n) % 64, 0);
      EXPECT_GE(kernels().prepared_bytes(form, n), form == VectorForm::kQ8 ? n : 4 * n);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Tables, ConvertTest,
                         ::testing::ValuesIn(AvailableCpuKernels().begin(),
                                             AvailableCpuKernels().end()),
                         [](const auto& test) { return TableName(*test.param); });

}  // namespace
}  // namespace thermocline::testing
