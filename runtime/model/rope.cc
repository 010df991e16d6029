#include "runtime/model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

// Returns the (fractional) index of the frequency that turns `rotations` times within the original
// context.
double CorrectionIndex(const RopeConfig& config, double rotations) {
  const auto context = static_cast<double>(config.original_max_seq_len);
  return static_cast<double>(config.rot_dim) *
         std::log(context / (rotations * 2 * std::numbers::pi)) / (2 * std::log(config.freq_base));
}

// Returns YaRN's ramp: 1 for frequencies that are kept, 0 for those that are divided by the factor.
double KeptShare(const RopeConfig& config, int64_t i) {
  const double low = std::max(0.0, std::floor(CorrectionIndex(config, config.yarn_beta_fast)));
  const double high = std::min(static_cast<double>(config.rot_dim - 1),
                               std::ceil(CorrectionIndex(config, config.yarn_beta_slow)));
  const double ramp = (static_cast<double>(i) - low) / std::max(0.001, high - low);
  return (1 - std::clamp(ramp, 0.0, 1.0)) * config.yarn_ext_factor;
}

}  // namespace

void ChooseLongRope(int64_t context_tokens, RopeConfig* config) {
  if (config->scaling != RopeScaling::kLong) return;
  if (context_tokens > config->original_max_seq_len) config->freq_divisors = config->long_divisors;
}

RopeAngles::RopeAngles(const RopeConfig& config) {
  CHECK(config.rot_dim % 2 == 0 && config.factor > 0);
  const auto n = static_cast<size_t>(config.rot_dim / 2);
  CHECK(config.freq_divisors.empty() || config.freq_divisors.size() == n);
  frequencies_.resize(n);
  for (size_t i = 0; i < n; ++i) {
    double frequency = std::pow(
        config.freq_base, -2.0 * static_cast<double>(i) / static_cast<double>(config.rot_dim));
    if (!config.freq_divisors.empty()) frequency /= static_cast<double>(config.freq_divisors[i]);
    double kept = 0;
    if (config.scaling == RopeScaling::kNone || config.scaling == RopeScaling::kLong) kept = 1;
    if (config.scaling == RopeScaling::kYarn) kept = KeptShare(config, static_cast<int64_t>(i));
    frequencies_[i] = frequency * (kept + (1 - kept) / config.factor);
  }
  if (config.scaling == RopeScaling::kLong) magnitude_ = config.attention_factor;
  if (config.scaling == RopeScaling::kYarn) {
    magnitude_ = config.attention_factor;
    if (config.yarn_ext_factor != 0) magnitude_ *= 1 + 0.1 * std::log(config.factor);
  }
}

void RopeAngles::Fill(int64_t position, float* cos, float* sin) const {
  for (size_t i = 0; i < frequencies_.size(); ++i) {
    const double angle = static_cast<double>(position) * frequencies_[i];
    cos[i] = static_cast<float>(std::cos(angle) * magnitude_);
    sin[i] = static_cast<float>(std::sin(angle) * magnitude_);
  }
}

}  // namespace thermocline
