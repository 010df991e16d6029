// What was computed of the FFNs so far, over the tokens whose neurons could be skipped one by one
// (larger batches run dense and are not counted).
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/device/ops.h"

namespace thermocline {

struct FfnCounts {
  int64_t tokens = 0;
  std::vector<FfnCount> layers;              // (n_layers), all tiers together
  std::vector<std::vector<FfnCount>> tiers;  // (tiers that run, n_layers)
  // Layers of passes of 2 to kMostSkipRows rows: whose neurons were computed one by one, and that
  // ran dense.
  int64_t batch_layers_by_neuron = 0;
  int64_t batch_layers_dense = 0;
  ChannelCounts channels;  // of mode kThreshold, batches as well where they are cut

  void Add(const FfnCounts& other) {
    layers.resize(other.layers.size());
    tiers.resize(other.tiers.size());
    batch_layers_by_neuron += other.batch_layers_by_neuron;
    batch_layers_dense += other.batch_layers_dense;
    for (size_t t = 0; t < tiers.size(); ++t) {
      tiers[t].resize(other.tiers[t].size());
      for (size_t l = 0; l < tiers[t].size(); ++l) tiers[t][l].Add(other.tiers[t][l]);
    }
    tokens += other.tokens;
    channels.Add(other.channels);
    for (size_t l = 0; l < layers.size(); ++l) layers[l].Add(other.layers[l]);
  }
  FfnCount Sum() const {
    FfnCount sum;
    for (const FfnCount& layer : layers) sum.Add(layer);
    return sum;
  }
};

}  // namespace thermocline
