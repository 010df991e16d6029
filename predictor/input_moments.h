// What the svd predictor learns of a layer's FFN inputs: their mean and covariance, summed over the
// tokens of a text.
#pragma once

#include <cstdint>
#include <vector>

namespace thermocline {

class InputMoments {
 public:
  explicit InputMoments(int64_t d_model);

  // Adds rows [begin, end) of the sums over n tokens. x: (n, d_model). Threads may add different
  // rows at once; every row must get the same tokens.
  void AddRows(const float* x, int64_t n, int64_t begin, int64_t end);
  void CountTokens(int64_t n) { n_tokens_ += n; }

  int64_t n_tokens() const { return n_tokens_; }
  std::vector<double> Mean() const;  // (d_model)
  // (d_model, d_model): E[(x - mean)(x - mean)'] + ridge I, the ridge being `relative_ridge` times
  // the mean variance: with it the matrix has a Cholesky factor however few the tokens were.
  std::vector<double> Covariance(double relative_ridge) const;

 private:
  int64_t d_;
  int64_t n_tokens_ = 0;
  std::vector<double> sums_;      // (d_model)
  std::vector<double> products_;  // (d_model, d_model) X'X
};

}  // namespace thermocline
