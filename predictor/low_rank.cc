#include "predictor/low_rank.h"

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <random>

#include "runtime/core/error.h"
#include "runtime/threads/sgemm.h"

namespace thermocline {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using MatrixF = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// Returns a b, or a' b. These are the large products, in f32 and through oneDNN, which has wide
// vectors wherever the CPU does. Rounding in them only tilts the subspace that is searched.
MatrixF Product(const Eigen::Ref<const MatrixF>& a, bool transpose_a, const MatrixF& b) {
  MatrixF out(transpose_a ? a.cols() : a.rows(), b.cols());
  Sgemm(transpose_a, false, out.rows(), out.cols(), b.rows(), a.data(), a.outerStride(), b.data(),
        b.outerStride(), out.data(), out.outerStride());
  return out;
}

Matrix OrthonormalColumns(const MatrixF& y) {
  const Matrix wide = y.cast<double>();
  const Eigen::HouseholderQR<Matrix> qr(wide);
  return qr.householderQ() * Matrix::Identity(y.rows(), y.cols());
}

// Returns orthonormal columns that span nearly what the leading right singular vectors of W S span.
Matrix RandomisedRange(const Eigen::Ref<const MatrixF>& w, const MatrixF& s, int64_t n_columns,
                       const LowRankOptions& options) {
  std::mt19937_64 random(options.seed);
  std::normal_distribution<float> normal;
  MatrixF y(w.rows(), n_columns);
  for (int64_t i = 0; i < y.size(); ++i) y.data()[i] = normal(random);
  for (int i = 0;; ++i) {
    Matrix q = OrthonormalColumns(Product(s, true, Product(w, true, y)));  // of S' W' y
    if (i == options.n_power_iterations) return q;
    y = Product(w, false, Product(s, false, q.cast<float>()));
  }
}

Eigen::LLT<Matrix> CholeskyOf(std::span<const double> metric, int64_t cols) {
  CHECK(static_cast<int64_t>(metric.size()) == cols * cols);
  Eigen::LLT<Matrix> cholesky(Eigen::Map<const Matrix>(metric.data(), cols, cols));
  if (cholesky.info() != Eigen::Success) {
    throw Error(
        {.what = "the inputs' covariance has no Cholesky factor",
         .hint = "the model computes values that are not finite, or the text is too short"});
  }
  return cholesky;
}

}  // namespace

LowRank FactorInMetric(const float* w, int64_t rows, int64_t cols, std::span<const double> metric,
                       const LowRankOptions& options) {
  const int64_t rank = options.rank;
  CHECK(rank >= 1 && rank <= std::min(rows, cols));
  const Eigen::Map<const MatrixF> weights(w, rows, cols);
  const Matrix s = CholeskyOf(metric, cols).matrixL();

  // Where Q's columns span the leading right singular vectors, those of W S are Q times those of
  // the small W S Q, found as eigenvectors of its Gram matrix.
  const int64_t n_columns = std::min(rank + options.n_oversample, std::min(rows, cols));
  const bool exact = cols <= options.exact_max_cols || n_columns == cols;
  const MatrixF s_f32 = exact ? MatrixF() : MatrixF(s.cast<float>());
  const Matrix q =
      exact ? Matrix::Identity(cols, cols) : RandomisedRange(weights, s_f32, n_columns, options);
  const Matrix projected =
      exact
          ? Matrix(weights.cast<double>() * s)
          : Matrix(Product(weights, false, Product(s_f32, false, q.cast<float>())).cast<double>());
  const Eigen::SelfAdjointEigenSolver<Matrix> eigen(projected.transpose() * projected);
  const Matrix right = eigen.eigenvectors().rightCols(rank).rowwise().reverse();
  const Eigen::VectorXd scale =
      eigen.eigenvalues().tail(rank).reverse().cwiseMax(1e-30).array().pow(0.25);

  LowRank out;
  out.in_proj.resize(static_cast<size_t>(rank * cols));
  out.out_proj.resize(static_cast<size_t>(rows * rank));
  Eigen::Map<MatrixF>(out.out_proj.data(), rows, rank) =
      (projected * right * scale.cwiseInverse().asDiagonal()).cast<float>();
  const Matrix directions = q * right * scale.asDiagonal();
  const Matrix in = s.transpose().triangularView<Eigen::Upper>().solve(directions);
  Eigen::Map<MatrixF>(out.in_proj.data(), rank, cols) = in.transpose().cast<float>();
  return out;
}

std::vector<float> RegressOn(const float* w, int64_t rows, int64_t cols,
                             std::span<const double> cross, std::span<const double> metric) {
  CHECK(static_cast<int64_t>(cross.size()) == cols * cols);
  const Eigen::Map<const Matrix> products(cross.data(), cols, cols);
  const Matrix map = CholeskyOf(metric, cols).solve(products.transpose());
  std::vector<float> out(static_cast<size_t>(rows * cols));
  const Eigen::Map<const MatrixF> weights(w, rows, cols);
  Eigen::Map<MatrixF>(out.data(), rows, cols) =
      Product(weights, false, map.transpose().cast<float>());
  return out;
}

}  // namespace thermocline
