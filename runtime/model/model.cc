#include "runtime/model/model.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace thermocline {

int64_t ModelConfig::max_group() const {
  int64_t most = 1;
  for (const LayerConfig& layer : layers) most = std::max(most, layer.attention.group());
  return most;
}

int64_t ModelConfig::n_neurons() const {
  const auto add = [](int64_t sum, const LayerConfig& layer) { return sum + layer.ffn.d_ff; };
  return std::accumulate(layers.begin(), layers.end(), int64_t{0}, add);
}

bool ModelConfig::has_equal_ffns() const {
  return std::ranges::all_of(layers,
                             [&](const LayerConfig& layer) { return layer.ffn.d_ff == d_ff; });
}

bool ModelConfig::has_equal_heads() const {
  return std::ranges::all_of(layers, [&](const LayerConfig& layer) {
    return layer.attention.n_heads == n_heads && layer.attention.n_kv_heads == n_kv_heads;
  });
}

bool ModelConfig::has_local_rope() const {
  return std::ranges::any_of(
      layers, [](const LayerConfig& layer) { return layer.attention.rope == LayerRope::kLocal; });
}

int64_t ModelConfig::n_kv_layers() const {
  return std::ranges::count_if(layers.begin() + n_encoder_layers, layers.end(),
                               &AttentionConfig::has_own_kv, &LayerConfig::attention);
}

int64_t ModelConfig::kv_layer(int64_t l) const {
  if (in_encoder(l)) return 0;
  const AttentionConfig& attention = layer(l).attention;
  return (attention.has_own_kv() ? l : attention.kv_layer) - n_encoder_layers;
}

bool ModelConfig::has_true_zeros() const {
  return std::ranges::any_of(layers, &FfnConfig::has_true_zeros, &LayerConfig::ffn);
}

bool ModelConfig::cuts_gates() const {
  return std::ranges::any_of(layers, &FfnConfig::cuts_gates, &LayerConfig::ffn);
}

void ModelConfig::MakeLayersEqual() {
  LayerConfig layer;
  layer.attention = {n_heads, n_kv_heads, head_dim};
  layer.attention.scale = 1.0F / std::sqrt(static_cast<float>(head_dim));
  layer.ffn.activation = activation;
  layer.ffn.d_ff = d_ff;
  layers.assign(static_cast<size_t>(n_layers), layer);
}

int64_t LayerStandIn::max_neurons() const {
  int64_t most = 0;
  for (const FfnSlice& slice : slices) most = std::max(most, slice.n_neurons);
  return most;
}

}  // namespace thermocline
