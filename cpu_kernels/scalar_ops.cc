// Normalisation, positions, attention and activations in plain C++.
#include <algorithm>
#include <bit>
#include <cmath>

#include "cpu_kernels/scalar.h"

namespace thermocline::scalar {

void rms_norm(const float* x, const float* weight, int64_t n, float eps, float* out) {
  double sum = 0.0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * x[i];
  const auto mean = static_cast<float>(sum / static_cast<double>(n));
  const float inverse = 1.0F / std::sqrt(mean + eps);
  for (int64_t i = 0; i < n; ++i) out[i] = x[i] * inverse * weight[i];
}

void layer_norm(const float* x, const float* weight, const float* bias, int64_t n, float eps,
                float* out) {
  double sum = 0.0;
  for (int64_t i = 0; i < n; ++i) sum += x[i];
  const double mean = sum / static_cast<double>(n);
  double squares = 0.0;
  for (int64_t i = 0; i < n; ++i) squares += (x[i] - mean) * (x[i] - mean);
  const auto variance = static_cast<float>(squares / static_cast<double>(n));
  const float inverse = 1.0F / std::sqrt(variance + eps);
  for (int64_t i = 0; i < n; ++i) {
    const float scaled = (x[i] - static_cast<float>(mean)) * inverse * weight[i];
    out[i] = bias == nullptr ? scaled : scaled + bias[i];
  }
}

void rope(RopePairing pairing, float* head, int64_t rot_dim, const float* cos, const float* sin) {
  const int64_t half = rot_dim / 2;
  const bool adjacent = pairing == RopePairing::kAdjacent;
  for (int64_t i = 0; i < half; ++i) {
    float* first = head + (adjacent ? 2 * i : i);
    float* second = first + (adjacent ? 1 : half);
    const float a = *first;
    const float b = *second;
    *first = a * cos[i] - b * sin[i];
    *second = a * sin[i] + b * cos[i];
  }
}

float exp_scores(float* x, int64_t n, float scale, float* m) {
  *m = *std::max_element(x, x + n) * scale;
  double sum = 0.0;
  for (int64_t i = 0; i < n; ++i) {
    x[i] = std::exp(x[i] * scale - *m);
    sum += x[i];
  }
  return static_cast<float>(sum);
}

namespace {

float act(Activation activation, float x) {
  const float positive = x < 0.0F ? 0.0F : x;  // NaN stays NaN
  switch (activation) {
    case Activation::kSilu:
      return x / (1.0F + std::exp(-x));  // exp overflows to inf below -88: x / inf = -0
    case Activation::kRelu:
      return positive;
    case Activation::kReluSqr:
      return positive * positive;
    case Activation::kGelu:
      return 0.5F * x * (1.0F + std::erf(x * 0.70710678118654752F));
    case Activation::kGeluTanh:
      return 0.5F * x * (1.0F + std::tanh(0.79788456080286536F * (x + 0.044715F * x * x * x)));
  }
  return x;
}

}  // namespace

void activate(Activation activation, float* gate, int64_t n) {
  for (int64_t i = 0; i < n; ++i) gate[i] = act(activation, gate[i]);
}

void drop_below(float* x, int64_t n, float threshold) {
  for (int64_t i = 0; i < n; ++i) x[i] = x[i] < threshold ? 0.0F : x[i];
}

void cut_below(const float* x, const float* factors, float least, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) {
    const float score = factors == nullptr ? std::abs(x[i]) : std::abs(x[i]) * factors[i];
    out[i] = score < least ? 0.0F : x[i];
  }
}

void scale(float* x, int64_t n, float scale, float cap) {
  for (int64_t i = 0; i < n; ++i) {
    const float scaled = scale * x[i];
    x[i] = cap == 0.0F ? scaled : cap * std::tanh(scaled / cap);
  }
}

void multiply(float* x, const float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] *= y[i];
}

void add(float* x, const float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] += y[i];
}

int64_t compact_nonzero(const float* values, int64_t n, int32_t base, int32_t* indices) {
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (values[i] != 0.0F) indices[count++] = base + static_cast<int32_t>(i);
  }
  return count;
}

void pack_signs(const float* x, int64_t n, uint64_t* words) {
  for (int64_t first = 0; first < n; first += 64) {
    const int64_t last = std::min(first + 64, n);
    uint64_t word = 0;
    for (int64_t i = first; i < last; ++i) {
      word |= uint64_t{std::bit_cast<uint32_t>(x[i]) >> 31} << (i - first);
    }
    words[first / 64] = word;
  }
}

void count_sign_differences(const uint64_t* w, int64_t n_words, const uint64_t* x, int64_t begin,
                            int64_t end, int32_t* out) {
  for (int64_t i = begin; i < end; ++i) {
    const uint64_t* row = w + i * n_words;
    int32_t count = 0;
    for (int64_t k = 0; k < n_words; ++k) count += std::popcount(row[k] ^ x[k]);
    out[i] = count;
  }
}

uint64_t sum_words(const uint64_t* words, int64_t n) {
  uint64_t sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += words[i];
  return sum;
}

}  // namespace thermocline::scalar
