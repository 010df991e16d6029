#include "predictor/low_rank.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <random>

#include "predictor/input_moments.h"
#include "tests/support/message_of.h"

namespace thermocline {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using MatrixF = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

MatrixF RandomMatrix(int64_t rows, int64_t cols, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  MatrixF out(rows, cols);
  for (int64_t i = 0; i < out.size(); ++i) out.data()[i] = normal(random);
  return out;
}

// Makes inputs whose directions differ much in size, as those of a network do.
MatrixF Inputs(int64_t n, int64_t d, uint32_t seed) {
  MatrixF mix = RandomMatrix(d, d, seed);
  for (int64_t i = 0; i < d; ++i) mix.row(i) *= std::exp(-3.0F * static_cast<float>(i) / d);
  return RandomMatrix(n, d, seed + 1) * mix;
}

std::vector<double> Flat(const Matrix& m) { return {m.data(), m.data() + m.size()}; }

Matrix ProductOf(const LowRank& factors, int64_t rows, int64_t cols, int64_t rank) {
  const Eigen::Map<const MatrixF> out(factors.out_proj.data(), rows, rank);
  const Eigen::Map<const MatrixF> in(factors.in_proj.data(), rank, cols);
  return (out * in).cast<double>();
}

class LowRankTest : public testing::Test {
 protected:
  static constexpr int64_t kRows = 70;
  static constexpr int64_t kCols = 40;

  // Returns the squared error of a product, over all inputs.
  double ErrorOf(const Matrix& product) const {
    return ((w_.cast<double>() - product) * x_.cast<double>().transpose()).squaredNorm();
  }
  double ErrorOf(const LowRankOptions& options) const {
    const LowRank factors = FactorInMetric(w_.data(), kRows, kCols, Flat(metric_), options);
    return ErrorOf(ProductOf(factors, kRows, kCols, options.rank));
  }
  // Returns, by Eckart and Young, the error of the best product of this rank: what the singular
  // values of W X' behind the first leave.
  double BestError(int64_t rank) const {
    const Eigen::JacobiSVD<Eigen::MatrixXd> svd(
        (w_.cast<double>() * x_.cast<double>().transpose()).eval());
    return svd.singularValues().tail(std::min(kRows, x_.rows()) - rank).squaredNorm();
  }

  MatrixF w_ = RandomMatrix(kRows, kCols, 1);
  MatrixF x_ = Inputs(200, kCols, 2);
  Matrix metric_ = x_.cast<double>().transpose() * x_.cast<double>() / 200;
};

TEST_F(LowRankTest, IsTheBestProductOnTheInputs) {
  for (const int64_t rank : {1, 5, 20, 39}) {
    EXPECT_NEAR(ErrorOf(LowRankOptions{.rank = rank}), BestError(rank),
                1e-4 * BestError(rank) + 1e-3)
        << rank;
  }
  // The truncated SVD of W alone is not the best.
  const Eigen::JacobiSVD<Eigen::MatrixXd> svd(w_.cast<double>().eval(),
                                              Eigen::ComputeThinU | Eigen::ComputeThinV);
  const Matrix plain = svd.matrixU().leftCols(5) * svd.singularValues().head(5).asDiagonal() *
                       svd.matrixV().leftCols(5).transpose();
  EXPECT_GT(ErrorOf(plain), 1.2 * BestError(5));
}

TEST_F(LowRankTest, RandomisedComesClose) {
  for (const int64_t rank : {2, 5, 20}) {
    const LowRankOptions options{.rank = rank, .exact_max_cols = 0, .n_oversample = 8};
    EXPECT_LE(ErrorOf(options), 1.01 * BestError(rank)) << rank;
    LowRankOptions other = options;
    other.seed = 2;
    EXPECT_LE(ErrorOf(other), 1.01 * BestError(rank)) << rank;
  }
}

// At this shape the randomised SVD runs by itself. It is compared with the best product, from the
// full one.
TEST(LowRankLargeTest, RandomisedLosesLessThanAPercent) {
  constexpr int64_t kTall = 1100;
  constexpr int64_t kWide = 600;
  const MatrixF w = RandomMatrix(kTall, kWide, 11);
  const MatrixF x = Inputs(1500, kWide, 12);
  const Matrix metric =
      (x.transpose() * x).cast<double>() / 1500 + 1e-3 * Matrix::Identity(kWide, kWide);
  const Matrix s = metric.llt().matrixL();
  const auto lost = [&](const LowRankOptions& options) {
    const LowRank factors = FactorInMetric(w.data(), kTall, kWide, Flat(metric), options);
    const Matrix product = ProductOf(factors, kTall, kWide, options.rank);
    return ((w.cast<double>() - product) * s).squaredNorm();
  };
  const double all = (w.cast<double>() * s).squaredNorm();
  for (const int64_t rank : {32, 128}) {
    const double best = lost({.rank = rank, .exact_max_cols = kWide});
    EXPECT_LT(best, 0.9 * all);
    EXPECT_GT(best, 0.02 * all);
    EXPECT_LE(lost({.rank = rank}), 1.01 * best) << rank;
  }
}

// y tells half of x exactly and nothing of the rest.
TEST(RegressOnTest, FindsWhatTheOtherInputTells) {
  constexpr int64_t kTokens = 4000;
  constexpr int64_t kD = 6;
  const MatrixF y = RandomMatrix(kTokens, kD, 21);
  const MatrixF unknown = RandomMatrix(kTokens, kD, 22);
  const MatrixF mix = RandomMatrix(kD, kD, 23);
  MatrixF x = y * mix.transpose();
  x.rightCols(kD / 2) = unknown.rightCols(kD / 2);
  x.array() += 2;  // what the mean adds is not the map's to tell
  CrossMoments cross(kD);
  cross.AddRows(x.data(), y.data(), kTokens, 0, 2);
  cross.AddRows(x.data(), y.data(), kTokens, 2, kD);
  cross.CountTokens(kTokens);
  InputMoments inputs(kD);
  inputs.AddRows(y.data(), kTokens, 0, kD);
  inputs.CountTokens(kTokens);
  const MatrixF w = RandomMatrix(9, kD, 24);
  const std::vector<float> map =
      RegressOn(w.data(), 9, kD, cross.Covariance(), inputs.Covariance(1e-6));
  const MatrixF expected = w.leftCols(kD / 2) * mix.topRows(kD / 2);
  for (int64_t i = 0; i < 9; ++i) {
    for (int64_t c = 0; c < kD; ++c) {
      EXPECT_NEAR(map[static_cast<size_t>(i * kD + c)], expected(i, c), 0.15) << i << " " << c;
    }
  }
  // The map is exact for the known half alone.
  MatrixF known = w;
  known.rightCols(kD / 2).setZero();
  const std::vector<float> exact =
      RegressOn(known.data(), 9, kD, cross.Covariance(), inputs.Covariance(1e-6));
  for (int64_t i = 0; i < 9 * kD; ++i) {
    EXPECT_NEAR(exact[static_cast<size_t>(i)], expected(i / kD, i % kD), 2e-3) << i;
  }
}

TEST_F(LowRankTest, ASeedGivesTheSameFactorsAgain) {
  const LowRankOptions options{.rank = 4, .seed = 9, .exact_max_cols = 0, .n_oversample = 4};
  const LowRank once = FactorInMetric(w_.data(), kRows, kCols, Flat(metric_), options);
  const LowRank again = FactorInMetric(w_.data(), kRows, kCols, Flat(metric_), options);
  EXPECT_EQ(once.in_proj, again.in_proj);
  EXPECT_EQ(once.out_proj, again.out_proj);
}

TEST_F(LowRankTest, AMetricWithoutACholeskyFactorIsAnError) {
  Matrix broken = metric_;
  broken(3, 3) = -1;
  EXPECT_THAT(
      MessageOf([&] { FactorInMetric(w_.data(), kRows, kCols, Flat(broken), {.rank = 4}); }),
      testing::HasSubstr("Cholesky"));
}

TEST(InputMomentsTest, MatchesDoubleHoweverTheWorkIsSplit) {
  constexpr int64_t kTokens = 300;
  constexpr int64_t kD = 70;
  MatrixF x = Inputs(kTokens, kD, 5);
  x.array() += 3;  // a mean that the covariance must not hold
  InputMoments moments(kD);
  for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, 100}, {100, 101}, {101, 300}}) {
    moments.AddRows(x.row(begin).data(), end - begin, 0, 16);
    moments.AddRows(x.row(begin).data(), end - begin, 16, kD);
    moments.CountTokens(end - begin);
  }
  const Matrix wide = x.cast<double>();
  const Matrix centred = wide.rowwise() - wide.colwise().mean();
  const Matrix expected = centred.transpose() * centred / kTokens;
  const std::vector<double> got = moments.Covariance(0.01);
  const double ridge = 0.01 * expected.trace() / kD;
  for (int64_t i = 0; i < kD; ++i) {
    for (int64_t j = 0; j < kD; ++j) {
      EXPECT_NEAR(got[static_cast<size_t>(i * kD + j)], expected(i, j) + (i == j ? ridge : 0),
                  1e-3);
    }
  }
}

// Three tokens leave 18 of 20 directions without any variance. The factors must know everything
// about those that have some.
TEST(InputMomentsTest, TheRidgeMakesUpForTooFewTokens) {
  const MatrixF x = Inputs(3, 20, 7);
  InputMoments moments(20);
  moments.AddRows(x.data(), 3, 0, 20);
  moments.CountTokens(3);
  const MatrixF w = RandomMatrix(30, 20, 8);
  for (const int64_t exact_max_cols : {512, 0}) {
    const LowRank factors = FactorInMetric(w.data(), 30, 20, moments.Covariance(1e-4),
                                           {.rank = 2, .exact_max_cols = exact_max_cols});
    const Matrix centred = (x.rowwise() - x.colwise().mean()).cast<double>();
    const Matrix scores = w.cast<double>() * centred.transpose();
    const Matrix difference = ProductOf(factors, 30, 20, 2) * centred.transpose() - scores;
    EXPECT_LT(difference.norm(), 0.01 * scores.norm());
  }
}

}  // namespace
}  // namespace thermocline
