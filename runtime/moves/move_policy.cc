#include "runtime/moves/move_policy.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "runtime/core/error.h"

namespace thermocline {

double LeastDifference(const MoveCosts& costs, double pay_back_tokens) {
  constexpr double kNever = 2;
  // What an active neuron takes longer on the slow tier.
  const double gain_s =
      costs.active_bytes / costs.slow_bytes_per_s - costs.active_bytes / costs.fast_bytes_per_s;
  if (!(gain_s > 0)) return kNever;
  const double cost_s = 2 * costs.neuron_bytes / costs.link_bytes_per_s;
  return cost_s / (gain_s * pay_back_tokens);
}

MovePolicy::MovePolicy(std::span<const Layer> layers, const MoveOptions& options)
    : options_(options), layers_(layers.begin(), layers.end()) {
  CHECK(options.max_swaps > 0 && options.tokens_between > 0 && options.deviations >= 0);
  for (size_t l = 0; l < layers_.size(); ++l) {
    const bool moves = layers_[l].Moves();
    heat_.emplace_back(moves ? layers_[l].n_neurons() : 0, options.half_life_tokens);
    if (moves) moving_.push_back(static_cast<int64_t>(l));
  }
}

int64_t MovePolicy::NextLayer(int64_t n_tokens) {
  CountTokens(n_tokens);
  if (moving_.empty() || tokens_ < options_.tokens_between) return -1;
  tokens_ = 0;
  const int64_t layer = moving_[next_];
  next_ = (next_ + 1) % moving_.size();
  return layer;
}

bool MovePolicy::IsWarm(int64_t layer) const {
  return heat(layer).weight() >= static_cast<double>(options_.warm_up_tokens);
}

bool MovePolicy::Pays(double slow_share, double fast_share, double weight) const {
  const double noise = std::sqrt((slow_share + fast_share) / weight);
  return slow_share - fast_share > std::max(options_.least_difference, options_.deviations * noise);
}

std::vector<NeuronSwap> MovePolicy::Turn(int64_t layer, std::span<const uint32_t> fired,
                                         int64_t n_tokens) {
  HeatCounters& heat = heat_[static_cast<size_t>(layer)];
  const Layer& sizes = layers_[static_cast<size_t>(layer)];
  CHECK(sizes.Moves());
  heat.Add(fired, n_tokens);
  if (!IsWarm(layer)) return {};
  std::vector<int64_t> positions(static_cast<size_t>(sizes.n_neurons()));
  std::iota(positions.begin(), positions.end(), int64_t{0});
  const auto fast_end = positions.begin() + sizes.n_fast;
  const int64_t most = std::min({options_.max_swaps, sizes.n_fast, sizes.n_slow});
  // The coldest of the fast tier, and the hottest of the slow one; of equal ones the first.
  const auto colder = [&](int64_t a, int64_t b) {
    const double x = heat.Share(a);
    const double y = heat.Share(b);
    return x < y || (x == y && a < b);
  };
  const auto hotter = [&](int64_t a, int64_t b) {
    const double x = heat.Share(a);
    const double y = heat.Share(b);
    return x > y || (x == y && a < b);
  };
  std::partial_sort(positions.begin(), positions.begin() + most, fast_end, colder);
  std::partial_sort(fast_end, fast_end + most, positions.end(), hotter);
  std::vector<NeuronSwap> swaps;
  for (int64_t i = 0; i < most; ++i) {
    const NeuronSwap swap{positions[static_cast<size_t>(i)],
                          positions[static_cast<size_t>(sizes.n_fast + i)]};
    if (!Pays(heat.Share(swap.slow), heat.Share(swap.fast), heat.weight())) break;
    swaps.push_back(swap);
  }
  for (const NeuronSwap& swap : swaps) heat.Swap(swap.fast, swap.slow);
  return swaps;
}

}  // namespace thermocline
