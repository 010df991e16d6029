// Guesses which neurons fire from the sign bits of the gate matrix and of its input alone
// (SparseInfer, arXiv:2411.12692): where more products w_ik x_k are positive than negative, their
// sum probably is. It takes one bit per weight, packed while a model is loaded; no file is needed.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cpu_kernels/kernels.h"
#include "runtime/core/tensor_view.h"

namespace thermocline {

// SparseInfer's margin: a neuron is skipped where alpha * (positive products) < (negative ones). It
// is 1 where nothing was calibrated.
inline constexpr double kDefaultSignAlpha = 1;
// Returns alpha as a threshold of the score (positive minus negative products) of d_model products.
inline double SignThreshold(double alpha, int64_t d_model) {
  return static_cast<double>(d_model) * (1 - alpha) / (1 + alpha);
}
inline double SignAlpha(double threshold, int64_t d_model) {
  const auto d = static_cast<double>(d_model);
  return (d - threshold) / (d + threshold);
}

// A token's input as sign bits.
struct SignInput {
  std::vector<uint64_t> words;
  float inverse_mean = 0;  // 1 / the mean of |x_k|
};

class SignRows {
 public:
  // gate: (n_neurons, d_model), any computable type. gate_bias: (n_neurons) or null; it is added to
  // the score in units of a mean product.
  SignRows(const KernelTable& kernels, const TensorView& gate, const float* gate_bias);

  // Packs rows [begin, end), before anything is scored. Threads may pack different rows at once.
  void Pack(int64_t begin, int64_t end);

  // Packs the signs of x: (d_model).
  void Prepare(const float* x, SignInput* input) const;
  // scores[i] = positive minus negative products of row i, plus the bias, for i in [begin, end).
  // counts: (n_neurons) scratch.
  void Score(const SignInput& input, int64_t begin, int64_t end, int32_t* counts,
             float* scores) const;

  int64_t n_neurons() const { return gate_.rows; }
  int64_t d_model() const { return gate_.cols; }
  const uint64_t* row(int64_t i) const { return bits_.data() + i * n_words_; }
  std::span<const float> scaled_bias() const { return scaled_bias_; }
  uint64_t row_bytes() const { return static_cast<uint64_t>(n_words_) * sizeof(uint64_t); }

 private:
  const KernelTable& kernels_;
  TensorView gate_;
  const float* gate_bias_;
  int64_t n_words_;
  std::vector<uint64_t> bits_;      // (n_neurons, n_words)
  std::vector<float> scaled_bias_;  // gate_bias over the row's mean |w|; empty without
};

}  // namespace thermocline
