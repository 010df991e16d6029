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

// Inputs whose directions differ much in size, as those of a network do.
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

  // The squared error of a product, over all inputs.
  double ErrorOf(const Matrix& product) const {
    return ((w_.cast<double>() - product) * x_.cast<double>().transpose()).squaredNorm();
  }
  double ErrorOf(const LowRankOptions& options) const {
    const LowRank factors = FactorInMetric(w_.data(), kRows, kCols, Flat(metric_), options);
    return ErrorOf(ProductOf(factors, kRows, kCols, options.rank));
  }
  // By Eckart and Young, the error of the best product of this rank: what the singular values of W
  // X' behind the first leave.
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
  // Which the truncated SVD of W alone is not.
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

TEST(InputMomentsTest, TheRidgeMakesUpForTooFewTokens) {
  const MatrixF x = Inputs(3, 20, 7);
  InputMoments moments(20);
  moments.AddRows(x.data(), 3, 0, 20);
  moments.CountTokens(3);
  const MatrixF w = RandomMatrix(30, 20, 8);
  EXPECT_EQ(
      MessageOf([&] { FactorInMetric(w.data(), 30, 20, moments.Covariance(1e-4), {.rank = 2}); }),
      "");
}

}  // namespace
}  // namespace thermocline
