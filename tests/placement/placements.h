// Placements for tests: shuffled neuron orders with a given share of every layer on the fast tier.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <random>
#include <string>

#include "runtime/model/model.h"
#include "runtime/placement/placement.h"

namespace thermocline {

inline Placement ShuffledPlacement(const std::string& fingerprint, int64_t n_layers, int64_t d_ff,
                                   double hot_share, uint32_t seed = 1) {
  std::mt19937 random(seed);
  Placement placement;
  placement.model_fingerprint = fingerprint;
  for (int64_t l = 0; l < n_layers; ++l) {
    LayerPlacement layer;
    layer.neuron_order.resize(static_cast<size_t>(d_ff));
    std::iota(layer.neuron_order.begin(), layer.neuron_order.end(), 0);
    std::shuffle(layer.neuron_order.begin(), layer.neuron_order.end(), random);
    layer.n_on[kVram] = static_cast<int64_t>(hot_share * static_cast<double>(d_ff));
    layer.n_on[kDram] = d_ff - layer.n_on[kVram];
    placement.layers.push_back(layer);
  }
  return placement;
}

// Returns one for layers with their own numbers of neurons. Layers whose gates are cut lie whole on
// one tier, in turn on the fast and on the slow one. Every second layer attends on the slow one,
// where it can.
inline Placement ShuffledPlacement(const std::string& fingerprint, const ModelConfig& config,
                                   double hot_share) {
  Placement placement;
  placement.model_fingerprint = fingerprint;
  bool on_fast = false;
  for (int64_t l = 0; l < config.n_layers; ++l) {
    const bool whole = config.layer(l).ffn.keeps_together();
    if (whole) on_fast = !on_fast;
    const double share = !whole ? hot_share : on_fast ? 1 : 0;
    const auto seed = static_cast<uint32_t>(l + 1);
    const Placement one = ShuffledPlacement(fingerprint, 1, config.d_ff_of(l), share, seed);
    placement.layers.push_back(one.layers.front());
    if (l % 2 == 1 && config.attention_may_move()) placement.layers.back().attention = kDram;
  }
  return placement;
}

}  // namespace thermocline
