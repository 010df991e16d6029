#include "profiler/activations/drift.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <numeric>
#include <utility>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

std::vector<MovePolicy::Layer> SizesOf(const Placement& placement) {
  std::vector<MovePolicy::Layer> sizes;
  for (const LayerPlacement& layer : placement.layers) {
    const int64_t n_fast = layer.n_on[kVram];
    sizes.push_back({n_fast, static_cast<int64_t>(layer.neuron_order.size()) - n_fast});
  }
  return sizes;
}

}  // namespace

void DriftedText::Add(const DriftedText& other) {
  n_tokens += other.n_tokens;
  activations += other.activations;
  fixed += other.fixed;
  moving += other.moving;
  best += other.best;
  n_swaps += other.n_swaps;
}

DriftSimulation::DriftSimulation(int64_t d_ff, const Placement& placement,
                                 const MoveOptions& options)
    : policy_(SizesOf(placement), options) {
  const auto n = static_cast<size_t>(d_ff);
  for (const LayerPlacement& own : placement.layers) {
    CHECK(own.neuron_order.size() == n);
    Layer& layer = layers_.emplace_back();
    layer.n_fast = own.n_on[kVram];
    layer.moves = layer.n_fast > 0 && layer.n_fast < d_ff;
    layer.order = own.neuron_order;
    layer.is_fixed.resize(n);
    for (int64_t i = 0; i < layer.n_fast; ++i) {
      layer.is_fixed[static_cast<size_t>(layer.order[static_cast<size_t>(i)])] = 1;
    }
    layer.is_fast = layer.is_fixed;
    layer.fired.resize(n);
    layer.text_counts.resize(n);
  }
}

void DriftSimulation::BeginText(const std::string& name) {
  if (!texts_.empty()) EndText();
  texts_.push_back({.name = name});
}

void DriftSimulation::Count(Layer* layer, ActiveBits active) {
  DriftedText& text = texts_.back();
  for (size_t w = 0; w < active.size(); ++w) {
    for (uint64_t bits = active[w]; bits != 0; bits &= bits - 1) {
      const size_t i = w * 64 + static_cast<size_t>(std::countr_zero(bits));
      text.activations += 1;
      text.fixed += layer->is_fixed[i];
      text.moving += layer->is_fast[i];
      ++layer->fired[i];
      ++layer->text_counts[i];
    }
  }
}

void DriftSimulation::OnToken(std::span<const ActiveBits> layers) {
  CHECK(layers.size() == layers_.size() && !texts_.empty());
  for (size_t l = 0; l < layers.size(); ++l) {
    if (layers_[l].moves) Count(&layers_[l], layers[l]);
  }
  ++n_tokens_;
  ++texts_.back().n_tokens;
  if (const int64_t layer = policy_.NextLayer(1); layer >= 0) TakeTurn(layer);
}

void DriftSimulation::TakeTurn(int64_t index) {
  Layer& layer = layers_[static_cast<size_t>(index)];
  std::vector<uint32_t> by_position;
  for (const int32_t id : layer.order) by_position.push_back(layer.fired[static_cast<size_t>(id)]);
  const int64_t n_tokens = n_tokens_ - std::exchange(layer.seen_tokens, n_tokens_);
  for (const NeuronSwap& swap : policy_.Turn(index, by_position, n_tokens)) {
    int32_t& fast = layer.order[static_cast<size_t>(swap.fast)];
    int32_t& slow = layer.order[static_cast<size_t>(swap.slow)];
    layer.is_fast[static_cast<size_t>(fast)] = 0;
    layer.is_fast[static_cast<size_t>(slow)] = 1;
    std::swap(fast, slow);
    ++texts_.back().n_swaps;
  }
  std::ranges::fill(layer.fired, 0U);
}

void DriftSimulation::EndText() {
  texts_.back() = Texts().back();
  for (Layer& layer : layers_) std::ranges::fill(layer.text_counts, int64_t{0});
}

std::vector<DriftedText> DriftSimulation::Texts() const {
  std::vector<DriftedText> texts = texts_;
  if (texts.empty()) return texts;
  for (const Layer& layer : layers_) {
    if (!layer.moves) continue;
    std::vector<int64_t> counts = layer.text_counts;
    const auto end = counts.begin() + layer.n_fast;
    std::nth_element(counts.begin(), end, counts.end(), std::greater<>());
    texts.back().best += static_cast<double>(std::accumulate(counts.begin(), end, int64_t{0}));
  }
  return texts;
}

}  // namespace thermocline
