// Approximates a layer's gate matrix by two factors as well as can be, where "well" is measured on
// the inputs that the layer really gets (arXiv:2603.14110).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace thermocline {

struct LowRankOptions {
  int64_t rank = 0;
  uint64_t seed = 1;
  // Matrices with more columns take a randomised SVD (Halko, Martinsson, Tropp, arXiv:0909.4061).
  int64_t exact_max_cols = 512;
  int64_t n_oversample = 32;
  int n_power_iterations = 3;
};

struct LowRank {
  std::vector<float> in_proj;   // (rank, cols)
  std::vector<float> out_proj;  // (rows, rank)
};

// Returns the two factors of the matrix M of this rank with the least trace((W - M) C (W - M)').
// With S S' = C (Cholesky) that is the truncated SVD of W S, times the inverse of S. A factor's
// scale is split evenly between the two. w: (rows, cols) f32. metric: C, (cols, cols), symmetric.
// REQUIRES: 1 <= rank <= min(rows, cols). Throws Error when C is not positive definite.
LowRank FactorInMetric(const float* w, int64_t rows, int64_t cols, std::span<const double> metric,
                       const LowRankOptions& options);

// Returns the matrix M (rows, cols) with the least E |W x - M y|^2 over centred pairs (x, y): what
// of W x can be told from y. cross: E[x y'], metric: E[y y'], both (cols, cols). Among products of
// a rank, FactorInMetric(M, metric) is then the one with the least E |W x - M' y|^2. Throws Error
// when metric is not positive definite.
std::vector<float> RegressOn(const float* w, int64_t rows, int64_t cols,
                             std::span<const double> cross, std::span<const double> metric);

}  // namespace thermocline
