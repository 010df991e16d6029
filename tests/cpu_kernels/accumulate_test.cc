#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "tests/cpu_kernels/kernel_reference.h"

namespace thermocline::testing {
namespace {

using Param = std::tuple<const KernelTable*, DType>;

class AccumulateTest : public ::testing::TestWithParam<Param> {
 protected:
  const KernelTable& kernels() const { return *std::get<0>(GetParam()); }
  DType dtype() const { return std::get<1>(GetParam()); }

  void run(const Matrix& w, const std::vector<float>& h, const std::vector<int32_t>* rows,
           int64_t col_begin, int64_t col_end, std::vector<float>* y) const {
    kernels().accumulate_rows(dtype(), w.data(), w.stride(), h.data(),
                              rows != nullptr ? rows->data() : nullptr,
                              static_cast<int64_t>(h.size()), col_begin, col_end, y->data());
  }

  // A product rounds h * d once, and each addition of the chain rounds once.
  void expect_close(const Matrix& w, const std::vector<float>& h, const std::vector<int32_t>& rows,
                    const std::vector<float>& before, const std::vector<float>& after) const {
    for (size_t c = 0; c < after.size(); ++c) {
      double reference = before[c];
      double magnitudes = std::fabs(before[c]);
      for (size_t i = 0; i < rows.size(); ++i) {
        const double product = h[i] * w.decoded(rows[i])[c];
        reference += product;
        magnitudes += std::fabs(product);
      }
      const auto n = static_cast<int64_t>(rows.size());
      const double allowed = AllowedError({.fixed = 4, .per_term = 1}, n, magnitudes, reference);
      ASSERT_NEAR(after[c], reference, allowed) << "column " << c;
    }
  }
};

TEST_P(AccumulateTest, MatchesDoubleForEveryWidthAndList) {
  std::mt19937 rng(1);
  for (const int64_t n_cols : ColumnCounts(dtype())) {
    constexpr int64_t kRows = 27;
    const Matrix w(dtype(), kRows, n_cols, n_cols % 2, &rng);
    for (const std::vector<int32_t>& rows : RowLists(kRows, &rng)) {
      const std::vector<float> h = RandomFloats(&rng, static_cast<int64_t>(rows.size()));
      const std::vector<float> before = RandomFloats(&rng, n_cols);
      std::vector<float> y = before;
      run(w, h, &rows, 0, n_cols, &y);
      expect_close(w, h, rows, before, y);
      if (rows.size() != kRows) continue;
      std::vector<float> without_list = before;
      run(w, h, nullptr, 0, n_cols, &without_list);
      EXPECT_EQ(without_list, y);
    }
  }
}

TEST_P(AccumulateTest, TouchesOnlyItsColumnsAndSplitsChangeNoBit) {
  std::mt19937 rng(2);
  const int64_t unit = IsQuantised(dtype()) ? 32 : 1;
  const int64_t n_cols = WholeBlocks(dtype(), 15 * 32 * unit / (unit == 1 ? 3 : 32));
  const Matrix w(dtype(), 21, n_cols, 5, &rng);
  const std::vector<float> h = RandomFloats(&rng, 21);
  const std::vector<float> before = RandomFloats(&rng, n_cols);
  std::vector<float> whole = before;
  run(w, h, nullptr, 0, n_cols, &whole);
  for (const int64_t cut : {1, 2, 3, 7, 8, 12}) {
    std::vector<float> parts = before;
    run(w, h, nullptr, 0, cut * unit, &parts);
    for (int64_t c = cut * unit; c < n_cols; ++c) {
      ASSERT_EQ(parts[static_cast<size_t>(c)], before[static_cast<size_t>(c)]);
    }
    run(w, h, nullptr, cut * unit, (cut + 1) * unit, &parts);
    run(w, h, nullptr, (cut + 1) * unit, n_cols, &parts);
    EXPECT_EQ(parts, whole) << "cut at " << cut * unit;
  }
}

TEST_P(AccumulateTest, ZerosChangeNoBit) {
  std::mt19937 rng(3);
  constexpr int64_t kRows = 40;
  const Matrix w(dtype(), kRows, WholeBlocks(dtype(), 352), 0, &rng);
  std::vector<float> h = RandomFloats(&rng, kRows);
  std::vector<int32_t> active;
  std::vector<float> active_h;
  for (int32_t i = 0; i < kRows; ++i) {
    if (i % 3 != 0) h[static_cast<size_t>(i)] = 0.0F;
    if (i % 3 == 0) active.push_back(i), active_h.push_back(h[static_cast<size_t>(i)]);
  }
  std::vector<float> with_zeros(static_cast<size_t>(w.n_cols()), 0.0F);
  std::vector<float> without = with_zeros;
  run(w, h, nullptr, 0, w.n_cols(), &with_zeros);
  run(w, active_h, &active, 0, w.n_cols(), &without);
  EXPECT_EQ(with_zeros, without);
}

TEST_P(AccumulateTest, SplittingTheListChangesNoBit) {
  std::mt19937 rng(4);
  const Matrix w(dtype(), 19, WholeBlocks(dtype(), 96), 0, &rng);
  const std::vector<float> h = RandomFloats(&rng, 19);
  std::vector<float> whole(static_cast<size_t>(w.n_cols()), 0.5F);
  std::vector<float> parts = whole;
  run(w, h, nullptr, 0, w.n_cols(), &whole);
  for (int32_t i = 0; i < 19; ++i) {
    const std::vector<int32_t> rows = {i};
    run(w, {h[static_cast<size_t>(i)]}, &rows, 0, w.n_cols(), &parts);
  }
  EXPECT_EQ(parts, whole);
}

// accumulate_channels may round the factors of some rows and a block of Q4_0, and with AVX2 of
// Q8_0, to 8 bits, by the largest of them.
TEST_P(AccumulateTest, ChannelsAreWithinTheRoundingOfTheirFactors) {
  std::mt19937 rng(5);
  const int64_t n_cols = WholeBlocks(dtype(), 416);
  const Matrix w(dtype(), 60, n_cols, 1, &rng);
  for (const std::vector<int32_t>& rows : RowLists(60, &rng)) {
    const std::vector<float> h = RandomFloats(&rng, static_cast<int64_t>(rows.size()));
    const std::vector<float> before = RandomFloats(&rng, n_cols);
    const auto add = [&](const int32_t* list, int64_t begin, int64_t end, std::vector<float>* y) {
      kernels().accumulate_channels(dtype(), w.data(), w.stride(), h.data(), list,
                                    static_cast<int64_t>(h.size()), begin, end, y->data());
    };
    std::vector<float> y = before;
    add(rows.data(), 0, n_cols, &y);
    float most = 0;
    for (const float value : h) most = std::max(most, std::fabs(value));
    for (size_t c = 0; c < y.size(); ++c) {
      double reference = before[c];
      double magnitudes = std::fabs(before[c]);
      double largest = 0;  // weight of the column's block
      const size_t block = c / 32 * 32;
      for (size_t i = 0; i < rows.size(); ++i) {
        reference += h[i] * w.decoded(rows[i])[c];
        magnitudes += std::fabs(h[i] * w.decoded(rows[i])[c]);
        for (size_t k = block; k < std::min(block + 32, y.size()); ++k) {
          largest = std::max(largest, std::fabs(w.decoded(rows[i])[k]));
        }
      }
      // Half a step of 1/127 of the largest factor; a weight of Q4_0 is at most 8 scales, and its
      // block's largest at least 7. Of Q8_0 it is 128 and 127.
      const bool rounds =
          dtype() == DType::kQ4_0 || (dtype() == DType::kQ8_0 && kernels().isa == "avx2");
      const double rounding =
          rounds ? static_cast<double>(rows.size()) * most * largest * 8 / 7 / 254 : 0;
      ASSERT_NEAR(y[c], reference, rounding + 1e-5 * magnitudes) << "column " << c;
    }
    if (rows.size() == 60) {
      std::vector<float> without_list = before;
      add(nullptr, 0, n_cols, &without_list);
      EXPECT_EQ(without_list, y);
    }
    if (!IsQuantised(dtype())) continue;
    std::vector<float> parts = before;
    add(rows.data(), 0, 256, &parts);
    for (size_t c = 256; c < parts.size(); ++c) ASSERT_EQ(parts[c], before[c]);
    add(rows.data(), 256, n_cols, &parts);
    EXPECT_EQ(parts, y);
  }
}

// Rows that lie apart may be read in another order of columns than rows side by side: of the same
// rows both make the same bits, however many strips they have and however many rows are left.
TEST_P(AccumulateTest, ChannelsThatLieApartAreTheSameBits) {
  std::mt19937 rng(6);
  constexpr int64_t kRows = 60;
  for (const int64_t wanted : {32, 128, 160, 256, 1024, 2208, 2336, 4096, 7424}) {
    const int64_t n_cols = WholeBlocks(dtype(), wanted);
    const Matrix w(dtype(), kRows, n_cols, wanted % 128 == 0 ? 0 : 3, &rng);
    for (const int64_t n : {0, 1, 7, 8, 9, 16, 29}) {
      std::vector<int32_t> rows;
      std::vector<std::byte> alone;
      for (int64_t i = 0; i < n; ++i) {
        rows.push_back(static_cast<int32_t>(2 * i));
        alone.insert(alone.end(), w.row(2 * i), w.row(2 * i) + RowBytes(dtype(), n_cols));
      }
      const std::vector<float> h = RandomFloats(&rng, n);
      std::vector<float> apart = RandomFloats(&rng, n_cols);
      std::vector<float> together = apart;
      kernels().accumulate_channels(dtype(), w.data(), w.stride(), h.data(), rows.data(), n, 0,
                                    n_cols, apart.data());
      kernels().accumulate_channels(dtype(), alone.data(), RowBytes(dtype(), n_cols), h.data(),
                                    nullptr, n, 0, n_cols, together.data());
      EXPECT_EQ(apart, together) << n << " rows of " << n_cols;
    }
  }
}

std::string ParamName(const ::testing::TestParamInfo<Param>& info) {
  return TableName(*std::get<0>(info.param)) + "_" +
         std::string(DTypeName(std::get<1>(info.param)));
}

INSTANTIATE_TEST_SUITE_P(Tables, AccumulateTest,
                         ::testing::Combine(::testing::ValuesIn(AvailableCpuKernels().begin(),
                                                                AvailableCpuKernels().end()),
                                            ::testing::ValuesIn(kWeightDTypes)),
                         ParamName);

}  // namespace
}  // namespace thermocline::testing
