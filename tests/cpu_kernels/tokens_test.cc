// Kernels of several tokens against those of one, bit by bit.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <tuple>

#include "tests/cpu_kernels/kernel_reference.h"

namespace thermocline::testing {
namespace {

constexpr float kUntouched = -54321.25F;
// 13 tokens are taken in two parts.
constexpr int64_t kTokenCounts[] = {1, 2, 3, 4, 5, 6, 7, 8, 13};
constexpr int64_t kMostTokens = 13;

using Param = std::tuple<const KernelTable*, DType>;

// Vectors of tokens, as far apart as the device lays them.
class PreparedTokens {
 public:
  PreparedTokens(const KernelTable& kernels, VectorForm form,
                 const std::vector<std::vector<float>>& x)
      : stride_(PreparedStride(kernels, form, static_cast<int64_t>(x.front().size()))),
        storage_(static_cast<size_t>(stride_) * x.size() + 64) {
    data_ = storage_.data() + (64 - reinterpret_cast<uintptr_t>(storage_.data()) % 64) % 64;
    for (size_t t = 0; t < x.size(); ++t) {
      kernels.prepare(form, x[t].data(), static_cast<int64_t>(x[t].size()),
                      data_ + static_cast<int64_t>(t) * stride_);
    }
  }
  const std::byte* token(int64_t t) const { return data_ + t * stride_; }
  int64_t stride() const { return stride_; }

 private:
  int64_t stride_;
  std::vector<std::byte> storage_;
  std::byte* data_;
};

class TokensTest : public ::testing::TestWithParam<Param> {
 protected:
  const KernelTable& kernels() const { return *std::get<0>(GetParam()); }
  DType dtype() const { return std::get<1>(GetParam()); }
  VectorForm form() const { return kernels().vector_form(dtype()); }

  // Compares entries [begin, end) of each number of tokens with matvec's of each token alone.
  void ExpectMatvecBits(const Matrix& w, const PreparedTokens& x, const std::vector<int32_t>* rows,
                        int64_t begin, int64_t end) const {
    const int32_t* const list = rows != nullptr ? rows->data() : nullptr;
    std::vector<std::vector<float>> alone(kMostTokens, std::vector<float>(Index(end), kUntouched));
    for (int64_t t = 0; t < kMostTokens; ++t) {
      kernels().matvec(dtype(), w.data(), w.stride(), w.n_cols(), x.token(t), list, begin, end,
                       alone[Index(t)].data());
    }
    for (const int64_t n : kTokenCounts) {
      const int64_t out_stride = end + 3;
      std::vector<float> out(Index(n * out_stride), kUntouched);
      kernels().matvec_tokens(dtype(), {w.data(), w.stride(), w.n_cols(), x.token(0), list, begin,
                                        end, out.data(), n, x.stride(), out_stride});
      for (int64_t t = 0; t < n; ++t) {
        std::vector<float> expected = alone[Index(t)];
        expected.resize(Index(out_stride), kUntouched);
        ASSERT_EQ(std::memcmp(out.data() + t * out_stride, expected.data(),
                              expected.size() * sizeof(float)),
                  0)
            << "token " << t << " of " << n << ", " << w.n_cols() << " columns, entries " << begin
            << " to " << end;
      }
    }
  }

  void RowsAndLists(int64_t n_cols, int64_t n_rows) const {
    std::mt19937 rng(12);
    const Matrix w(dtype(), n_rows, n_cols, 0, &rng);
    const PreparedTokens x = Tokens(n_cols, &rng);
    ExpectMatvecBits(w, x, nullptr, 0, n_rows);
    ExpectMatvecBits(w, x, nullptr, n_rows / 2, n_rows - 1);
    std::vector<int32_t> rows;
    for (int32_t r = 0; r < n_rows; ++r) {
      if (r % 7 != 3) rows.push_back(r);
    }
    ExpectMatvecBits(w, x, &rows, 0, static_cast<int64_t>(rows.size()));
  }

  // Compares sums over a list with accumulate_rows' of each token alone, for each number of tokens.
  void ExpectSumBits(const Matrix& w, const std::vector<int32_t>* rows, int64_t col_begin,
                     int64_t col_end, std::mt19937* rng) const {
    const int64_t n_rows = rows != nullptr ? static_cast<int64_t>(rows->size()) : w.n_rows();
    const int32_t* const list = rows != nullptr ? rows->data() : nullptr;
    const int64_t h_stride = n_rows + 1;
    const int64_t y_stride = w.n_cols() + 5;
    const std::vector<float> h = RandomFloats(rng, kMostTokens * h_stride);
    const std::vector<float> before = RandomFloats(rng, kMostTokens * y_stride);
    std::vector<float> alone = before;
    for (int64_t t = 0; t < kMostTokens; ++t) {
      kernels().accumulate_rows(dtype(), w.data(), w.stride(), h.data() + t * h_stride, list,
                                n_rows, col_begin, col_end, alone.data() + t * y_stride);
    }
    for (const int64_t n : kTokenCounts) {
      std::vector<float> y = before;
      kernels().accumulate_tokens(dtype(), {w.data(), w.stride(), h.data(), list, n_rows, col_begin,
                                            col_end, y.data(), n, h_stride, y_stride});
      ASSERT_EQ(std::memcmp(y.data(), alone.data(), Index(n * y_stride) * sizeof(float)), 0)
          << n << " tokens, " << n_rows << " rows, columns " << col_begin << " to " << col_end;
      ASSERT_EQ(std::memcmp(y.data() + n * y_stride, before.data() + n * y_stride,
                            (y.size() - Index(n * y_stride)) * sizeof(float)),
                0);
    }
  }

  PreparedTokens Tokens(int64_t n_cols, std::mt19937* rng) const {
    std::vector<std::vector<float>> x;
    for (int64_t t = 0; t < kMostTokens; ++t) x.push_back(RandomFloats(rng, n_cols));
    return {kernels(), form(), x};
  }

  static size_t Index(int64_t i) { return static_cast<size_t>(i); }
};

// Up to eight vectors share the 64 sets of a cache whose ways are pages.
TEST(TokenStrideTest, KeepsVectorsOutOfEachOthersLines) {
  for (const int64_t n_bytes : {4160, 4672, 4736, 8192, 16384, 44032}) {
    const int64_t stride = TokenStride(n_bytes);
    EXPECT_GE(stride, n_bytes);
    EXPECT_LT(stride, n_bytes + 4096 + 576);
    EXPECT_EQ(stride % 64, 0);
    std::vector<int> sets;
    for (int64_t t = 0; t < 8; ++t) sets.push_back(static_cast<int>(t * stride / 64 % 64));
    std::ranges::sort(sets);
    for (size_t t = 1; t < sets.size(); ++t) EXPECT_GE(sets[t] - sets[t - 1], 8) << n_bytes;
  }
  for (const int64_t n_bytes : {64, 576, 4096}) EXPECT_EQ(TokenStride(n_bytes), n_bytes);
}

TEST_P(TokensTest, RowsHaveTheBitsOfOneToken) {
  std::mt19937 rng(11);
  for (const int64_t n_cols : ColumnCounts(dtype())) {
    const Matrix w(dtype(), 9, n_cols, n_cols % 3, &rng);
    ExpectMatvecBits(w, Tokens(n_cols, &rng), nullptr, 0, 9);
  }
}

// Columns that are taken in tiles, and more rows than a group has.
TEST_P(TokensTest, TilesAndGroupsChangeNoBit) {
  if (GetWeightTypeInfo(dtype()).by_chunks) return RowsAndLists(256, 41);
  RowsAndLists(WholeBlocks(dtype(), 6000), 41);
}

TEST_P(TokensTest, ListsHaveTheBitsOfOneToken) {
  std::mt19937 rng(13);
  const Matrix w(dtype(), 61, WholeBlocks(dtype(), 288), 0, &rng);
  const PreparedTokens x = Tokens(w.n_cols(), &rng);
  for (const std::vector<int32_t>& rows : RowLists(61, &rng)) {
    const auto n = static_cast<int64_t>(rows.size());
    ExpectMatvecBits(w, x, &rows, 0, n);
    ExpectMatvecBits(w, x, &rows, n / 3, n);
  }
}

// The largest and smallest integers of a type with the largest activations, and vectors of zeros,
// of huge values and of garbage beside them.
TEST_P(TokensTest, ExtremesHaveTheBitsOfOneToken) {
  std::mt19937 rng(14);
  const int64_t n_cols = WholeBlocks(dtype(), 352);
  std::vector<std::vector<float>> x;
  for (int64_t t = 0; t < kMostTokens; ++t) {
    x.push_back(RandomFloats(&rng, n_cols));
    std::vector<float>& mine = x.back();
    if (t % 5 == 0) std::fill(mine.begin(), mine.end(), 127.0F);
    if (t % 5 == 1) std::fill(mine.begin(), mine.end(), -127.0F);
    if (t % 5 == 2) std::fill(mine.begin(), mine.end(), 0.0F);
    if (t == 3) mine[7] = 1e30F;
    if (t == 4) mine[9] = INFINITY;
  }
  const PreparedTokens prepared(kernels(), form(), x);
  for (const int fill : {0x00, 0xff, 0x80, 0x7f}) {
    if (!IsQuantised(dtype()) && fill != 0) continue;
    const Matrix w = IsQuantised(dtype()) ? Matrix(dtype(), 5, n_cols, std::byte(fill), &rng)
                                          : Matrix(dtype(), 5, n_cols, int64_t{0}, &rng);
    ExpectMatvecBits(w, prepared, nullptr, 0, 5);
  }
}

TEST_P(TokensTest, SumsHaveTheBitsOfOneToken) {
  std::mt19937 rng(15);
  for (const int64_t n_cols : ColumnCounts(dtype())) {
    const Matrix w(dtype(), 37, n_cols, n_cols % 2, &rng);
    const int64_t unit = IsQuantised(dtype()) ? 32 : 1;
    for (const std::vector<int32_t>& rows : RowLists(37, &rng)) {
      ExpectSumBits(w, &rows, 0, n_cols, &rng);
      if (rows.size() != 37) continue;
      ExpectSumBits(w, nullptr, 0, n_cols, &rng);
      ExpectSumBits(w, nullptr, n_cols / unit / 3 * unit, n_cols, &rng);
      ExpectSumBits(w, nullptr, 0, n_cols / unit * 2 / 3 * unit, &rng);
    }
  }
}

// Each token leaves out rows of its own.
TEST_P(TokensTest, ZerosHaveTheBitsOfAListWithoutThem) {
  std::mt19937 rng(16);
  constexpr int64_t kRows = 50;
  const Matrix w(dtype(), kRows, WholeBlocks(dtype(), 352), 0, &rng);
  const auto n_cols = static_cast<size_t>(w.n_cols());
  std::vector<float> h = RandomFloats(&rng, kMostTokens * kRows);
  for (float& value : h) {
    if (rng() % 3 != 0) value = 0.0F;
  }
  std::vector<float> y(kMostTokens * n_cols, 0.0F);
  kernels().accumulate_tokens(dtype(), {w.data(), w.stride(), h.data(), nullptr, kRows, 0,
                                        w.n_cols(), y.data(), kMostTokens, kRows, w.n_cols()});
  for (int64_t t = 0; t < kMostTokens; ++t) {
    std::vector<int32_t> rows;
    std::vector<float> mine;
    for (int32_t i = 0; i < kRows; ++i) {
      const float value = h[Index(t * kRows + i)];
      if (value != 0) rows.push_back(i), mine.push_back(value);
    }
    std::vector<float> alone(n_cols, 0.0F);
    kernels().accumulate_rows(dtype(), w.data(), w.stride(), mine.data(), rows.data(),
                              static_cast<int64_t>(rows.size()), 0, w.n_cols(), alone.data());
    ASSERT_EQ(std::memcmp(alone.data(), y.data() + Index(t) * n_cols, n_cols * sizeof(float)), 0)
        << "token " << t;
  }
}

std::string ParamName(const ::testing::TestParamInfo<Param>& info) {
  return TableName(*std::get<0>(info.param)) + "_" +
         std::string(DTypeName(std::get<1>(info.param)));
}

INSTANTIATE_TEST_SUITE_P(Tables, TokensTest,
                         ::testing::Combine(::testing::ValuesIn(TablesOfAllBits()),
                                            ::testing::ValuesIn(kWeightDTypes)),
                         ParamName);

}  // namespace
}  // namespace thermocline::testing
