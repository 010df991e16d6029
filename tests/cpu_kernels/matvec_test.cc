#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <tuple>

#include "tests/cpu_kernels/kernel_reference.h"

namespace thermocline::testing {
namespace {

constexpr float kSentinel = -12345.5F;

using Param = std::tuple<const KernelTable*, DType>;

class MatvecTest : public ::testing::TestWithParam<Param> {
 protected:
  const KernelTable& kernels() const { return *std::get<0>(GetParam()); }
  DType dtype() const { return std::get<1>(GetParam()); }
  int64_t columns(int64_t n) const { return WholeBlocks(dtype(), n); }
  VectorForm form() const { return kernels().vector_form(dtype()); }

  // Runs [begin, end) into a fresh output of `size` sentinels with one more on either side.
  std::vector<float> run(const Matrix& w, const Prepared& x, const std::vector<int32_t>* rows,
                         int64_t begin, int64_t end, int64_t size) const {
    std::vector<float> out(static_cast<size_t>(size) + 2, kSentinel);
    kernels().matvec(dtype(), w.data(), w.stride(), w.n_cols(), x.data(),
                     rows != nullptr ? rows->data() : nullptr, begin, end, out.data() + 1);
    for (int64_t i = -1; i <= size; ++i) {
      if (i >= begin && i < end) continue;
      EXPECT_EQ(out[static_cast<size_t>(i + 1)], kSentinel) << i;
    }
    return {out.begin() + 1, out.end() - 1};
  }

  void expect_close(const Matrix& w, int64_t row, const std::vector<double>& x, float got) const {
    double reference = 0;
    double magnitudes = 0;
    for (int64_t c = 0; c < w.n_cols(); ++c) {
      const auto i = static_cast<size_t>(c);
      reference += w.decoded(row)[i] * x[i];
      magnitudes += w.magnitudes(row)[i] * std::fabs(x[i]);
    }
    const Tolerance tolerance = DotTolerance(dtype(), form());
    ASSERT_NEAR(got, reference, AllowedError(tolerance, w.n_cols(), magnitudes, reference))
        << "row " << row << ", " << w.n_cols() << " columns";
  }
};

bool SameBits(float a, float b) { return std::memcmp(&a, &b, sizeof(a)) == 0; }

TEST_P(MatvecTest, MatchesDoubleForEveryWidthAndStride) {
  std::mt19937 rng(1);
  for (const int64_t n_cols : ColumnCounts(dtype())) {
    for (const int64_t padding : {0, 1, 70}) {
      const Matrix w(dtype(), 9, n_cols, padding, &rng);
      const std::vector<float> x = RandomFloats(&rng, n_cols);
      const Prepared prepared(kernels(), form(), x);
      const std::vector<double> effective =
          EffectiveActivations(form(), x, kernels().activation_bits);
      const std::vector<float> out = run(w, prepared, nullptr, 0, 9, 9);
      for (int64_t r = 0; r < 9; ++r) expect_close(w, r, effective, out[static_cast<size_t>(r)]);
    }
  }
}

TEST_P(MatvecTest, BitsDoNotDependOnTheRange) {
  std::mt19937 rng(2);
  for (const int64_t n_cols : {columns(32), columns(96), columns(992)}) {
    constexpr int64_t kRows = 29;
    const Matrix w(dtype(), kRows, n_cols, 3, &rng);
    const Prepared x(kernels(), form(), RandomFloats(&rng, n_cols));
    const std::vector<float> whole = run(w, x, nullptr, 0, kRows, kRows);
    for (const auto& [begin, end] :
         {std::pair{0, 1}, {0, 5}, {1, 8}, {3, 3}, {7, 29}, {10, 13}, {28, 29}}) {
      const std::vector<float> part = run(w, x, nullptr, begin, end, kRows);
      for (int i = begin; i < end; ++i) {
        EXPECT_TRUE(SameBits(part[static_cast<size_t>(i)], whole[static_cast<size_t>(i)]));
      }
    }
  }
}

TEST_P(MatvecTest, GathersTheRowsOfAList) {
  std::mt19937 rng(3);
  constexpr int64_t kRows = 61;
  const Matrix w(dtype(), kRows, columns(288), 0, &rng);
  const Prepared x(kernels(), form(), RandomFloats(&rng, w.n_cols()));
  const std::vector<float> whole = run(w, x, nullptr, 0, kRows, kRows);
  for (const std::vector<int32_t>& rows : RowLists(kRows, &rng)) {
    const auto n = static_cast<int64_t>(rows.size());
    for (const int64_t begin : {int64_t{0}, n / 3}) {
      const std::vector<float> out = run(w, x, &rows, begin, n, n);
      for (int64_t i = begin; i < n; ++i) {
        const auto row = static_cast<size_t>(rows[static_cast<size_t>(i)]);
        EXPECT_TRUE(SameBits(out[static_cast<size_t>(i)], whole[row])) << "row " << row;
      }
    }
  }
}

// Returns runs of every length up to 40, some with scattered rows between them and some a row
// apart.
std::vector<int32_t> RunsOfAllLengths(std::mt19937* rng) {
  std::vector<int32_t> lengths(40);
  std::iota(lengths.begin(), lengths.end(), 1);
  std::shuffle(lengths.begin(), lengths.end(), *rng);
  std::vector<int32_t> rows;
  int32_t next = 0;
  for (const int32_t length : lengths) {
    for (int32_t i = 0; i < length; ++i) rows.push_back(next++);
    const auto scattered = static_cast<int32_t>((*rng)() % 12);
    for (int32_t i = 0; i < scattered; ++i) {
      next += 1 + static_cast<int32_t>((*rng)() % 3);
      rows.push_back(next++);
    }
    next += 1;
  }
  return rows;
}

// A row's bits must not show whether it is read in a stretch of neighbours, in a group of rows that
// lie apart or alone. The strides lie on both sides of where more rows are read at once and of
// where runs of up to 40 rows are stretches.
TEST_P(MatvecTest, BitsDoNotDependOnTheNeighboursInAList) {
  std::mt19937 rng(7);
  for (const auto& [n_columns, padding] :
       {std::pair{32, 2}, {480, 900}, {480, 3200}, {352, 12400}, {992, 2}}) {
    const int64_t n_cols = columns(n_columns);
    const std::vector<int32_t> rows = RunsOfAllLengths(&rng);
    const int64_t n_rows = rows.back() + 1;
    const Matrix w(dtype(), n_rows, n_cols, padding, &rng);
    const Prepared x(kernels(), form(), RandomFloats(&rng, n_cols));
    const std::vector<float> whole = run(w, x, nullptr, 0, n_rows, n_rows);
    std::vector<float> alone(whole.size());
    for (const int32_t row : rows) {
      kernels().matvec(dtype(), w.data(), w.stride(), n_cols, x.data(), nullptr, row, row + 1,
                       alone.data());
      ASSERT_TRUE(SameBits(alone[static_cast<size_t>(row)], whole[static_cast<size_t>(row)]));
    }
    const auto n = static_cast<int64_t>(rows.size());
    for (int trial = 0; trial < 40; ++trial) {
      int64_t begin = 0;
      int64_t end = n;
      if (trial > 0) {
        begin = static_cast<int64_t>(rng() % static_cast<uint64_t>(n));
        const int64_t most = std::min<int64_t>(n - begin, trial < 25 ? 48 : n);
        end = begin + 1 + static_cast<int64_t>(rng() % static_cast<uint64_t>(most));
      }
      const std::vector<float> out = run(w, x, &rows, begin, end, n);
      for (int64_t i = begin; i < end; ++i) {
        const auto row = static_cast<size_t>(rows[static_cast<size_t>(i)]);
        ASSERT_TRUE(SameBits(out[static_cast<size_t>(i)], whole[row]))
            << "entry " << i << " of [" << begin << ", " << end << "), row " << row << ", "
            << n_cols << " columns";
      }
    }
  }
}

TEST_P(MatvecTest, ZerosGiveZero) {
  std::mt19937 rng(4);
  const Matrix w(dtype(), 6, columns(224), 0, &rng);
  const Prepared x(kernels(), form(), std::vector<float>(static_cast<size_t>(w.n_cols()), 0.0F));
  EXPECT_THAT(run(w, x, nullptr, 0, 6, 6), ::testing::Each(0.0F));
}

TEST_P(MatvecTest, ExtremeActivationsStayExact) {
  std::mt19937 rng(5);
  const Matrix w(dtype(), 6, columns(160), 0, &rng);
  std::vector<float> x(static_cast<size_t>(w.n_cols()));
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = (i % 2 == 0 ? 1.0F : -1.0F) * (i < 64 ? 1e30F : i < 96 ? 0.0F : 1e-20F);
  }
  const Prepared prepared(kernels(), form(), x);
  const std::vector<double> effective = EffectiveActivations(form(), x, kernels().activation_bits);
  const std::vector<float> out = run(w, prepared, nullptr, 0, 6, 6);
  for (int64_t r = 0; r < 6; ++r) expect_close(w, r, effective, out[static_cast<size_t>(r)]);
}

// The largest integers of a type, or the smallest, with the largest activations.
TEST_P(MatvecTest, ExtremeIntegersMatchDouble) {
  if (!IsQuantised(dtype())) return;
  std::mt19937 rng(8);
  const int64_t n_cols = columns(96);
  for (const int fill : {0x00, 0xff, 0x80, 0x7f}) {
    const Matrix w(dtype(), 3, n_cols, static_cast<std::byte>(fill), &rng);
    for (const float sign : {127.0F, -127.0F}) {
      const std::vector<float> x(static_cast<size_t>(n_cols), sign);
      const std::vector<double> effective =
          EffectiveActivations(form(), x, kernels().activation_bits);
      const std::vector<float> out = run(w, Prepared(kernels(), form(), x), nullptr, 0, 3, 3);
      for (int64_t r = 0; r < 3; ++r) expect_close(w, r, effective, out[static_cast<size_t>(r)]);
    }
  }
}

TEST_P(MatvecTest, GarbageStaysVisible) {
  std::mt19937 rng(6);
  const Matrix w(dtype(), 5, columns(96), 0, &rng);
  for (const float garbage : {NAN, INFINITY, -INFINITY}) {
    std::vector<float> x = RandomFloats(&rng, w.n_cols());
    x[70] = garbage;
    const Prepared prepared(kernels(), form(), x);
    for (const float y : run(w, prepared, nullptr, 0, 5, 5)) EXPECT_FALSE(std::isfinite(y));
  }
}

class QuantisedMatvecTest : public MatvecTest {};
class Q6KMatvecTest : public MatvecTest {};
class Iq4XsMatvecTest : public MatvecTest {};

// These are the largest integer sums that VNNI and the 16-bit pairs of AVX2 can meet.
TEST_P(QuantisedMatvecTest, LargestWeightsTimesLargestActivations) {
  const int64_t block_bytes = GetDTypeInfo(dtype()).block_bytes;
  for (const int fill : {0x00, 0x80, 0x7f, 0xff, 0x88}) {
    GuardedBytes row(static_cast<size_t>(block_bytes * 3));
    std::memset(row.data(), fill, static_cast<size_t>(block_bytes * 3));
    const uint16_t one = 0x3c00;
    const uint16_t minus_eight = 0xc800;
    for (int b = 0; b < 3; ++b) {
      std::memcpy(row.data() + b * block_bytes, &one, 2);
      if (dtype() == DType::kQ4_1) std::memcpy(row.data() + b * block_bytes + 2, &minus_eight, 2);
    }
    const std::vector<double> weights = DecodeRow(dtype(), row.data(), 96);
    for (const float sign : {1.0F, -1.0F}) {
      const Prepared x(kernels(), form(), std::vector<float>(96, sign * 127.0F));
      double reference = 0;
      for (const double weight : weights) reference += weight * sign * 127.0;
      float out = 0;
      kernels().matvec(dtype(), row.data(), 0, 96, x.data(), nullptr, 0, 1, &out);
      EXPECT_EQ(out, reference) << fill;
    }
  }
}

// These are the largest integer sums that Q6_K's scales lead to. Every partial sum is an integer
// times a power of two that f32 holds exactly.
TEST_P(Q6KMatvecTest, LargestScalesTimesLargestWeightsTimesLargestActivations) {
  for (const int bits : {0x00, 0xff}) {
    for (const int scale : {0x80, 0x7f, 0x01, 0xff}) {
      GuardedBytes row(210);
      std::memset(row.data(), bits, 192);
      std::memset(row.data() + 192, scale, 16);
      const uint16_t one = 0x3c00;
      std::memcpy(row.data() + 208, &one, 2);
      const double weight = (bits == 0 ? -32.0 : 31.0) * static_cast<int8_t>(scale);
      for (const float sign : {1.0F, -1.0F}) {
        const Prepared x(kernels(), form(), std::vector<float>(256, sign * 127.0F));
        float out = 0;
        kernels().matvec(dtype(), row.data(), 0, 256, x.data(), nullptr, 0, 1, &out);
        EXPECT_EQ(out, 256 * weight * sign * 127.0) << bits << " " << scale;
      }
    }
  }
}

// The same of IQ4_XS, whose largest sums are 8 * 4 * 127 * 127 * 32 * 127 to a lane, just below
// 2^31.
TEST_P(Iq4XsMatvecTest, LargestScalesTimesLargestWeightsTimesLargestActivations) {
  for (const int nibbles : {0x00, 0xff}) {
    for (const int scale : {0, 31, 63, 32}) {  // 32 is taken away
      GuardedBytes row(136);
      const uint16_t one = 0x3c00;
      std::memcpy(row.data(), &one, 2);
      const int low = scale & 15;
      const int high = scale >> 4;
      std::memset(row.data() + 2, high << 6 | high << 4 | high << 2 | high, 2);
      std::memset(row.data() + 4, low << 4 | low, 4);
      std::memset(row.data() + 8, nibbles, 128);
      const double weight = (nibbles == 0 ? -127.0 : 113.0) * (scale - 32);
      for (const float sign : {1.0F, -1.0F}) {
        const Prepared x(kernels(), form(), std::vector<float>(256, sign * 127.0F));
        float out = 0;
        kernels().matvec(dtype(), row.data(), 0, 256, x.data(), nullptr, 0, 1, &out);
        EXPECT_FLOAT_EQ(out, static_cast<float>(256 * weight * sign * 127.0))
            << nibbles << " " << scale;
      }
    }
  }
}

std::string ParamName(const ::testing::TestParamInfo<Param>& info) {
  return TableName(*std::get<0>(info.param)) + "_" +
         std::string(DTypeName(std::get<1>(info.param)));
}

INSTANTIATE_TEST_SUITE_P(Tables, MatvecTest,
                         ::testing::Combine(::testing::ValuesIn(TablesOfAllBits()),
                                            ::testing::ValuesIn(kWeightDTypes)),
                         ParamName);

INSTANTIATE_TEST_SUITE_P(Tables, QuantisedMatvecTest,
                         ::testing::Combine(::testing::ValuesIn(TablesOfAllBits()),
                                            ::testing::Values(DType::kQ8_0, DType::kQ4_1,
                                                              DType::kQ4_0)),
                         ParamName);

INSTANTIATE_TEST_SUITE_P(Tables, Q6KMatvecTest,
                         ::testing::Combine(::testing::ValuesIn(TablesOfAllBits()),
                                            ::testing::Values(DType::kQ6_K)),
                         ParamName);

INSTANTIATE_TEST_SUITE_P(Tables, Iq4XsMatvecTest,
                         ::testing::Combine(::testing::ValuesIn(TablesOfAllBits()),
                                            ::testing::Values(DType::kIQ4_XS)),
                         ParamName);

}  // namespace
}  // namespace thermocline::testing
