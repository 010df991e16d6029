#include "runtime/moves/heat.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr double kFull = std::numeric_limits<uint16_t>::max();

}  // namespace

// A neuron that is active in every token comes to a full counter.
HeatCounters::HeatCounters(int64_t n_neurons, double half_life_tokens)
    : keep_(std::exp2(-1 / half_life_tokens)),
      step_(std::floor(kFull * (1 - keep_))),
      heat_(static_cast<size_t>(n_neurons), uint16_t{0}) {
  CHECK(n_neurons >= 0 && half_life_tokens >= 1);
  step_ = std::max(step_, 1.0);
}

void HeatCounters::Add(std::span<const uint32_t> fired, int64_t n_tokens) {
  CHECK(fired.size() == heat_.size() && n_tokens >= 0);
  if (n_tokens == 0) return;
  const auto n = static_cast<double>(n_tokens);
  const double kept = std::pow(keep_, n);
  // What the tokens still count at their end, if what fired was spread over them evenly.
  const double counted = (1 - kept) / (1 - keep_);
  const double scale = step_ * counted / n;
  for (size_t i = 0; i < heat_.size(); ++i) {
    const double heat = heat_[i] * kept + scale * std::min<double>(fired[i], n);
    heat_[i] = static_cast<uint16_t>(std::min(std::round(heat), kFull));
  }
  weight_ = weight_ * kept + counted;
}

double HeatCounters::Share(int64_t i) const {
  if (weight_ == 0) return 0;
  return std::min(1.0, heat_[static_cast<size_t>(i)] / (step_ * weight_));
}

}  // namespace thermocline
