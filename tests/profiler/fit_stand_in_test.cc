// The closed form of a low-rank map against a direct search for the least squared error.
#include "profiler/drafts/fit_stand_in.h"

#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <cmath>
#include <random>

namespace thermocline {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr int64_t kD = 12;
constexpr int64_t kTokens = 600;

// Inputs whose directions differ in size and are mixed, and outputs that are not linear in them.
struct Samples {
  Matrix z{kTokens, kD};
  Matrix t{kTokens, kD};

  explicit Samples(uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<double> normal;
    Matrix mix(kD, kD);
    Matrix map(kD, kD);
    for (int64_t i = 0; i < kD * kD; ++i) mix.data()[i] = normal(random);
    for (int64_t i = 0; i < kD * kD; ++i) map.data()[i] = normal(random);
    for (int64_t r = 0; r < kTokens; ++r) {
      for (int64_t i = 0; i < kD; ++i)
        z(r, i) = (0.2 + 0.2 * static_cast<double>(i)) * normal(random);
    }
    z = (z * mix).eval();
    t = (z * map).unaryExpr([](double x) { return std::max(x, 0.0) + 0.5; });
  }

  LeftOutMoments Moments() const {
    const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> zf =
        z.cast<float>();
    const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> tf =
        t.cast<float>();
    LeftOutMoments moments(kD);
    // In two parts, and by rows, as lanes add them.
    const int64_t half = kTokens / 2;
    for (int64_t from : {int64_t{0}, half}) {
      for (int64_t row = 0; row < kD; row += 4) {
        moments.AddRows(zf.data() + from * kD, tf.data() + from * kD, half, row, row + 4);
      }
      moments.CountTokens(half);
    }
    return moments;
  }

  // Mean squared error about the mean of t ~ right (left z).
  double Error(const Matrix& left, const Matrix& right) const {
    const Matrix zc = z.rowwise() - z.colwise().mean();
    const Matrix tc = t.rowwise() - t.colwise().mean();
    return (tc - zc * left.transpose() * right.transpose()).squaredNorm() / kTokens;
  }
};

// Alternates between the two factors, each of which has the least error given the other.
double DirectError(const Samples& samples, int64_t rank) {
  // A rotation of the tokens changes no squared error: one that leaves zeros below 2 kD rows.
  Matrix both(kTokens, 2 * kD);
  both << samples.z.rowwise() - samples.z.colwise().mean(),
      samples.t.rowwise() - samples.t.colwise().mean();
  const Matrix rotated =
      both.householderQr().matrixQR().topRows(2 * kD).triangularView<Eigen::Upper>();
  const Matrix zc = rotated.leftCols(kD);
  const Matrix tc = rotated.rightCols(kD);
  std::mt19937 random(5);
  std::normal_distribution<double> normal;
  Matrix left(rank, kD);
  for (int64_t i = 0; i < rank * kD; ++i) left.data()[i] = normal(random);
  Matrix right;
  for (int step = 0; step < 500; ++step) {
    const Matrix low = zc * left.transpose();
    right = low.colPivHouseholderQr().solve(tc).transpose();
    const Matrix wanted = right.completeOrthogonalDecomposition().solve(tc.transpose()).transpose();
    left = zc.colPivHouseholderQr().solve(wanted).transpose();
  }
  return samples.Error(left, right);
}

Matrix ToMatrix(const std::vector<float>& values, int64_t rows, int64_t cols) {
  Matrix out(rows, cols);
  for (int64_t i = 0; i < rows * cols; ++i) {
    out.data()[i] = static_cast<double>(values[static_cast<size_t>(i)]);
  }
  return out;
}

TEST(FitStandIn, HasTheLeastErrorOfItsRank) {
  const Samples samples(1);
  const LeftOutMoments moments = samples.Moments();
  double before = 1e30;
  for (const int64_t rank : {1, 3, 6, 12}) {
    const LowRankMap map = FitLowRank(moments, kD, rank);
    const double error = samples.Error(ToMatrix(map.left, rank, kD), ToMatrix(map.right, kD, rank));
    const double direct = DirectError(samples, rank);
    // The ridge costs a little; nothing can be better than the least error.
    EXPECT_GE(error, direct * (1 - 1e-4)) << rank;
    EXPECT_LE(error, direct * 1.002) << rank;
    EXPECT_LT(error, before);
    before = error;
  }
}

// With the bias the mean is met, with a map and without one.
TEST(FitStandIn, TheBiasMeetsTheMean) {
  const Samples samples(2);
  const LeftOutMoments moments = samples.Moments();
  const LowRankMap map = FitLowRank(moments, kD, 3);
  const std::vector<float> with_map = FitBias(moments, map.left, map.right, 3);
  const std::vector<float> alone = FitBias(moments, {}, {}, 0);
  const Matrix told =
      samples.z * ToMatrix(map.left, 3, kD).transpose() * ToMatrix(map.right, kD, 3).transpose();
  for (int64_t i = 0; i < kD; ++i) {
    const auto at = static_cast<size_t>(i);
    EXPECT_NEAR(static_cast<double>(alone[at]), samples.t.col(i).mean(), 1e-3);
    EXPECT_NEAR(static_cast<double>(with_map[at]) + told.col(i).mean(), samples.t.col(i).mean(),
                1e-3);
  }
}

}  // namespace
}  // namespace thermocline
