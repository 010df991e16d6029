// What can be told of the neurons that a draft leaves out from the input that the draft's FFN gets:
// least squares about the mean, of a rank (reduced-rank regression). In closed form, from sums over
// a text.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "predictor/input_moments.h"

namespace thermocline {

// Sums over tokens: z, what the FFN reads, and t, what the neurons that are left out would have
// added. Both (d_model).
class LeftOutMoments {
 public:
  explicit LeftOutMoments(int64_t d_model) : inputs_(d_model), products_(d_model) {}

  // Adds rows [begin, end) of the sums over n tokens, as CrossMoments::AddRows does.
  void AddRows(const float* z, const float* t, int64_t n, int64_t begin, int64_t end) {
    inputs_.AddRows(z, n, begin, end);
    products_.AddRows(t, z, n, begin, end);
  }
  void CountTokens(int64_t n) {
    inputs_.CountTokens(n);
    products_.CountTokens(n);
  }
  const InputMoments& inputs() const { return inputs_; }
  const CrossMoments& products() const { return products_; }  // of t with z

 private:
  InputMoments inputs_;
  CrossMoments products_;
};

// t ~ right (left z) + bias.
struct LowRankMap {
  std::vector<float> left;   // (rank, d_model)
  std::vector<float> right;  // (d_model, rank)
};

// Returns the map of the least squared error about the mean. REQUIRES: 1 <= rank <= d_model;
// tokens. Throws Error where the sums are not finite.
LowRankMap FitLowRank(const LeftOutMoments& moments, int64_t d_model, int64_t rank);

// Returns the bias that goes with a map, as it is stored, or with none (both null):
// E[t] - right (left E[z]). map: null or (d_model, d_model) row-major.
std::vector<float> FitBias(const LeftOutMoments& moments, std::span<const float> left,
                           std::span<const float> right, int64_t rank);

}  // namespace thermocline
