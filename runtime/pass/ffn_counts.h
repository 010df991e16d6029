// What was computed of the FFNs so far, over the tokens whose neurons could be skipped one by one
// (larger batches run dense and are not counted).
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/device/ops.h"

namespace thermocline {

struct FfnCounts {
  int64_t tokens = 0;
  std::vector<FfnCount> layers;  // (n_layers), all tiers together
  ChannelCounts channels;        // of mode kThreshold, batches as well where they are cut

  void Add(const FfnCounts& other) {
    layers.resize(other.layers.size());
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
