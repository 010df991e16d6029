// What the svd predictor learns of a layer's FFN inputs: their mean and covariance, summed over the
// tokens of a text; and, to look ahead, how the inputs of one layer go with those of the next.
#pragma once

#include <cstdint>
#include <vector>

namespace thermocline {

// Sums over pairs (x, y) of vectors of one length, one pair per token.
class CrossMoments {
 public:
  explicit CrossMoments(int64_t d_model);

  // Adds rows [begin, end) of the sums over n tokens. x, y: (n, d_model), may be the same. Threads
  // may add different rows at once; every row must get the same tokens.
  void AddRows(const float* x, const float* y, int64_t n, int64_t begin, int64_t end);
  void CountTokens(int64_t n) { n_tokens_ += n; }

  int64_t n_tokens() const { return n_tokens_; }
  // Returns (d_model, d_model): E[(x - E[x])(y - E[y])']. REQUIRES: tokens.
  std::vector<double> Covariance() const;
  // E[x], (d_model). REQUIRES: tokens.
  std::vector<double> MeanX() const;

 private:
  int64_t d_;
  int64_t n_tokens_ = 0;
  std::vector<double> x_sums_;    // (d_model)
  std::vector<double> y_sums_;    // (d_model)
  std::vector<double> products_;  // (d_model, d_model) X'Y
};

class InputMoments {
 public:
  explicit InputMoments(int64_t d_model) : d_(d_model), moments_(d_model) {}

  // Adds rows as CrossMoments::AddRows does.
  void AddRows(const float* x, int64_t n, int64_t begin, int64_t end) {
    moments_.AddRows(x, x, n, begin, end);
  }
  void CountTokens(int64_t n) { moments_.CountTokens(n); }

  int64_t n_tokens() const { return moments_.n_tokens(); }
  // Returns (d_model, d_model): E[(x - mean)(x - mean)'] + ridge I, the ridge being
  // `relative_ridge` times the mean variance. With it the matrix has a Cholesky factor however few
  // the tokens were.
  std::vector<double> Covariance(double relative_ridge) const;
  std::vector<double> Mean() const { return moments_.MeanX(); }

 private:
  int64_t d_;
  CrossMoments moments_;
};

}  // namespace thermocline
