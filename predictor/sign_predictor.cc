#include "predictor/sign_predictor.h"

#include <algorithm>
#include <cmath>

#include "runtime/core/checked_math.h"

namespace thermocline {
namespace {

// Element i goes to sum i % 32, and these are added in pairs: an order that the lanes of a GPU's
// warp have, too (gpu_kernels/products/sign_scores.cu), so that both give the same bits.
float MeanMagnitude(const float* x, int64_t n) {
  constexpr int64_t kSums = 32;
  double sums[kSums] = {};
  for (int64_t i = 0; i < n; ++i) sums[i % kSums] += std::abs(static_cast<double>(x[i]));
  for (int64_t distance = kSums / 2; distance > 0; distance /= 2) {
    for (int64_t i = 0; i < distance; ++i) sums[i] += sums[i + distance];
  }
  return static_cast<float>(std::max(sums[0] / static_cast<double>(n), 1e-30));
}

}  // namespace

SignRows::SignRows(const KernelTable& kernels, const TensorView& gate, const float* gate_bias)
    : kernels_(kernels),
      gate_(gate),
      gate_bias_(gate_bias),
      n_words_(CeilDiv(gate.cols, int64_t{64})),
      bits_(static_cast<size_t>(gate.rows * n_words_)),
      scaled_bias_(gate_bias == nullptr ? 0 : static_cast<size_t>(gate.rows)) {}

void SignRows::Pack(int64_t begin, int64_t end) {
  std::vector<float> row(static_cast<size_t>(gate_.cols));
  for (int64_t i = begin; i < end; ++i) {
    kernels_.dequantize_f32(gate_.dtype, gate_.row(i), 0, gate_.cols, row.data());
    kernels_.pack_signs(row.data(), gate_.cols, bits_.data() + i * n_words_);
    if (gate_bias_ == nullptr) continue;
    scaled_bias_[static_cast<size_t>(i)] = gate_bias_[i] / MeanMagnitude(row.data(), gate_.cols);
  }
}

void SignRows::Prepare(const float* x, SignInput* input) const {
  input->words.resize(static_cast<size_t>(n_words_));
  kernels_.pack_signs(x, gate_.cols, input->words.data());
  if (gate_bias_ != nullptr) input->inverse_mean = 1 / MeanMagnitude(x, gate_.cols);
}

void SignRows::Score(const SignInput& input, int64_t begin, int64_t end, int32_t* counts,
                     float* scores) const {
  kernels_.count_sign_differences(bits_.data(), n_words_, input.words.data(), begin, end, counts);
  for (int64_t i = begin; i < end; ++i) {
    scores[i] = static_cast<float>(gate_.cols - 2 * int64_t{counts[i]});
  }
  if (gate_bias_ == nullptr) return;
  for (int64_t i = begin; i < end; ++i) {
    scores[i] += scaled_bias_[static_cast<size_t>(i)] * input.inverse_mean;
  }
}

}  // namespace thermocline
