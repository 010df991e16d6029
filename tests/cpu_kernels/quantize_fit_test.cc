// The quantisers that minimise the squared error, by what their rows decode to.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "cpu_kernels/kernels.h"
#include "runtime/core/quant_values.h"
#include "runtime/core/weight_chunk.h"
#include "tests/support/weight_reference.h"

namespace thermocline::testing {
namespace {

std::vector<double> ReadRow(DType dtype, const std::vector<std::byte>& row, size_t n) {
  std::vector<double> out;
  WeightChunk chunk;
  for (size_t i = 0; i < n; ++i) {
    if (i % 32 == 0) ReadWeightChunk(dtype, row.data(), static_cast<int64_t>(i / 32), &chunk);
    const size_t scaled = i % 32 / 16;
    out.push_back(static_cast<double>(chunk.scales[scaled]) * chunk.quants[i % 32] +
                  static_cast<double>(chunk.offsets[scaled]));
  }
  return out;
}

// Quantises and decodes x.
std::vector<double> Kept(DType dtype, const std::vector<float>& x,
                         std::span<const float> importance = {}) {
  const auto n = static_cast<int64_t>(x.size());
  std::vector<std::byte> row(static_cast<size_t>(RowBytes(dtype, n)) + 1, std::byte{0xa5});
  QuantizeRow(dtype, x.data(), n, row.data(), importance);
  EXPECT_EQ(row.back(), std::byte{0xa5});
  return ReadRow(dtype, row, x.size());
}

// Returns the relative RMS error; each weight counts by its importance.
double ErrorOf(const std::vector<double>& kept, const std::vector<float>& x,
               const std::vector<float>& importance) {
  double error = 0;
  double squares = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    error += importance[i] * std::pow(kept[i] - x[i], 2);
    squares += importance[i] * std::pow(x[i], 2);
  }
  return std::sqrt(error / squares);
}

std::vector<DType> WrittenQuantisedTypes() {
  std::vector<DType> types;
  for (const WeightTypeInfo& info : kWeightTypes) {
    if (info.written && IsQuantised(info.stored.dtype)) types.push_back(info.stored.dtype);
  }
  return types;
}

class QuantizeFitTest : public ::testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(Types, QuantizeFitTest, ::testing::ValuesIn(WrittenQuantisedTypes()),
                         [](const auto& test) { return std::string(DTypeName(test.param)); });

// Percent of the root mean square of normal weights. In comments: what ggml's quantisers leave on
// weights of the same distribution.
double MostPercentLost(DType dtype) {
  switch (dtype) {
    case DType::kQ8_0:
      return 0.55;  // 0.54
    case DType::kQ6_K:
      return 1.72;  // 1.78
    case DType::kQ5_K:
      return 3.52;  // 3.62
    case DType::kQ5_1:
      return 3.85;  // 3.79, and the same bytes
    case DType::kQ5_0:
      return 4.35;  // 4.28, and the same bytes
    case DType::kQ4_K:
      return 7.12;  // 7.14
    case DType::kQ4_1:
      return 7.95;  // 7.83, and the same bytes
    case DType::kIQ4_NL:
      return 7.45;  // 7.62
    case DType::kQ4_0:
      return 8.75;  // 8.62, and the same bytes
    case DType::kIQ4_XS:
      return 7.53;  // 7.68
    case DType::kMXFP4:
      return 11.3;  // 11.53
    case DType::kQ3_K:
      return 14.6;  // 15.1
    case DType::kS3_0:
      return 17.5;  // no tool beside this one has it
    case DType::kS2_0:
      return 33;  // the same
    case DType::kQ2_K:
      return 26.8;  // 29.7
    default:
      return 0;
  }
}

TEST_P(QuantizeFitTest, ErrorOnNormalWeights) {
  std::mt19937 rng(13);
  const std::vector<float> x = RandomFloats(&rng, 256 * 400, 0.05F);
  const std::vector<float> alike(x.size(), 1.0F);
  const double percent = 100 * ErrorOf(Kept(GetParam(), x), x, alike);
  EXPECT_LT(percent, MostPercentLost(GetParam()));
  EXPECT_GT(percent, 0.9 * MostPercentLost(GetParam()));
}

// Inputs differ in size, as those of a model do: counting them lowers the error that is made of
// them, in every row.
TEST_P(QuantizeFitTest, ImportanceLowersTheErrorThatCounts) {
  std::mt19937 rng(14);
  constexpr int64_t kColumns = 2048;
  std::vector<float> importance = RandomFloats(&rng, kColumns);
  for (float& value : importance) value = 1e6F * std::exp(1.5F * value);
  for (int trial = 0; trial < 5; ++trial) {
    const std::vector<float> x = RandomFloats(&rng, kColumns);
    if (GetParam() == DType::kQ8_0) {  // which rounds one way
      EXPECT_EQ(Kept(GetParam(), x, importance), Kept(GetParam(), x));
      continue;
    }
    const double counted = ErrorOf(Kept(GetParam(), x, importance), x, importance);
    // MXFP4 has but two scales to choose from.
    const double most = GetParam() == DType::kMXFP4 ? 1.0 : 0.99;
    EXPECT_LE(counted, most * ErrorOf(Kept(GetParam(), x), x, importance));
  }
}

TEST_P(QuantizeFitTest, ImportanceOfNothingCountsAlike) {
  std::mt19937 rng(15);
  const std::vector<float> x = RandomFloats(&rng, 512);
  const std::vector<float> alike(x.size(), 1.0F);
  const double plain = ErrorOf(Kept(GetParam(), x), x, alike);
  EXPECT_LT(ErrorOf(Kept(GetParam(), x, std::vector<float>(512, 0.0F)), x, alike), 1.05 * plain);
  // A block whose inputs were all 0 is not thrown away.
  std::vector<float> first_half(512, 1.0F);
  std::fill(first_half.begin() + 256, first_half.end(), 0.0F);
  EXPECT_LT(ErrorOf(Kept(GetParam(), x, first_half), x, alike), 1.05 * plain);
}

TEST_P(QuantizeFitTest, ZerosExtremesAndGarbage) {
  for (const float nothing : {0.0F, 1e-45F, -1e-39F}) {
    const std::vector<double> kept = Kept(GetParam(), std::vector<float>(512, nothing));
    EXPECT_THAT(kept, ::testing::Each(::testing::DoubleNear(0.0, 1e-38)));
  }
  const bool has_exponent = GetParam() == DType::kMXFP4;
  std::vector<float> wide(256, 3e38F);
  for (size_t i = 0; i < wide.size(); i += 3) wide[i] = -3e38F;
  for (const std::vector<float>& x : {std::vector<float>(256, 3e38F), wide}) {
    // No f16 scales them, which must not come out as ordinary numbers.
    for (const double value : Kept(GetParam(), x))
      EXPECT_TRUE(!std::isfinite(value) || has_exponent);
  }
  for (const float one : {1.0F, -1.0F}) {
    EXPECT_THAT(Kept(GetParam(), std::vector<float>(256, one)),
                ::testing::Each(::testing::DoubleNear(one, 1e-3)));
  }
  for (const float garbage : {NAN, INFINITY, -INFINITY}) {
    std::vector<float> x(512, 1.0F);
    x[5] = garbage;
    const std::vector<double> kept = Kept(GetParam(), x);
    const auto block = static_cast<size_t>(GetDTypeInfo(GetParam()).block_elems);
    for (size_t i = 0; i < block; ++i) {
      EXPECT_TRUE(has_exponent ? std::isinf(static_cast<float>(kept[i])) : std::isnan(kept[i]));
    }
    for (size_t i = block; i < 512; ++i) EXPECT_NEAR(kept[i], 1.0, 1e-3);
  }
}

// What a type can hold: weight = scale * step - offset, with the scales and offsets of a block
// being multiples of two numbers.
struct Grid {
  DType dtype;
  int group;                // weights that share a scale
  std::vector<int> steps;   // the first one is the end of the range that a search starts from
  std::vector<int> scales;  // the first one is the largest in magnitude
  int last_offset = 0;
};

std::vector<int> FromTo(int first, int last) {
  std::vector<int> all;
  for (int i = first; i != last; i += first < last ? 1 : -1) all.push_back(i);
  all.push_back(last);
  return all;
}

std::vector<Grid> Grids() {
  const std::vector<int> uneven(std::begin(kUnevenNibbles), std::end(kUnevenNibbles));
  const std::vector<int> floats(std::begin(kFloatNibbles), std::end(kFloatNibbles));
  return {{DType::kQ5_0, 32, FromTo(-16, 15), {1}},
          {DType::kQ5_1, 32, FromTo(31, 0), {1}},
          {DType::kIQ4_NL, 32, uneven, {1}},
          {DType::kMXFP4, 32, floats, {1, 2, 4, 256}},
          {DType::kQ6_K, 16, FromTo(-32, 31), FromTo(-128, 127)},
          {DType::kQ5_K, 32, FromTo(31, 0), FromTo(63, 20), 63},
          {DType::kQ4_K, 32, FromTo(15, 0), FromTo(63, 20), 63},
          {DType::kQ3_K, 16, FromTo(-4, 3), FromTo(-32, 31)},
          {DType::kQ2_K, 16, FromTo(3, 0), FromTo(15, 5), 15},
          {DType::kIQ4_XS, 32, uneven, FromTo(-32, 31)}};
}

// In each group the first and the last step occur, and in each block the largest scale and offset.
TEST(QuantizeGridTest, WeightsOnTheGridAreKept) {
  std::mt19937 rng(16);
  const auto any_of = [&rng](const std::vector<int>& list) { return list[rng() % list.size()]; };
  for (const Grid& grid : Grids()) {
    for (int trial = 0; trial < 20; ++trial) {
      std::vector<float> x(512);
      for (size_t begin = 0; begin < x.size(); begin += static_cast<size_t>(grid.group)) {
        const bool first = begin % 256 == 0;
        const int scale = first ? grid.scales.front() : any_of(grid.scales);
        const int offset =
            first ? grid.last_offset
                  : static_cast<int>(rng() % static_cast<unsigned>(grid.last_offset + 1));
        for (size_t i = 0; i < static_cast<size_t>(grid.group); ++i) {
          int step = any_of(grid.steps);
          if (i == 3) step = grid.steps.front();
          if (i == 7) step = grid.steps.back();
          x[begin + i] =
              0x1p-9F * static_cast<float>(scale * step) - 0x1p-7F * static_cast<float>(offset);
        }
      }
      EXPECT_THAT(x, ::testing::ElementsAreArray(Kept(grid.dtype, x))) << DTypeName(grid.dtype);
    }
  }
}

}  // namespace
}  // namespace thermocline::testing
