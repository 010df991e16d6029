#include "runtime/engine/touched_bytes.h"

#include <algorithm>
#include <numeric>

namespace thermocline {
namespace {

double WeightBytes(const TensorView& w) { return static_cast<double>(w.weight_bytes()); }

// Gate, up and down of a layer's neurons on all tiers.
std::array<double, 3> FfnBytes(const LayerWeights& layer) {
  std::array<double, 3> bytes{};
  for (const FfnSlice& slice : layer.slices) {
    if (slice.n_neurons == 0) continue;
    bytes[0] += WeightBytes(slice.gate);
    bytes[1] += WeightBytes(slice.up);
    bytes[2] += WeightBytes(slice.down);
  }
  return bytes;
}

}  // namespace

TouchedBytes TouchedPerToken(const Engine& engine, const FfnCounts& counts, SparseMode mode) {
  const ModelConfig& config = engine.config();
  const ModelWeights& weights = engine.weights();
  const std::span<const LayerPredictors> predictors = engine.predictors();
  TouchedBytes touched;
  const auto add = [&](PassPart part, double bytes) {
    touched.parts[static_cast<size_t>(part)] += bytes;
  };
  const double norm = static_cast<double>(config.d_model) * sizeof(float);
  add(PassPart::kEmbed, static_cast<double>(RowBytes(weights.token_embd.dtype, config.d_model)));
  add(PassPart::kHead, norm + WeightBytes(weights.output.w));
  const int64_t n_tokens = std::max<int64_t>(1, counts.tokens);
  double skipped = 0;
  for (size_t l = 0; l < weights.layers.size(); ++l) {
    const LayerWeights& w = weights.layers[l];
    add(PassPart::kQkv, norm + WeightBytes(w.wq.w) + WeightBytes(w.wk.w) + WeightBytes(w.wv.w));
    add(PassPart::kOutput, WeightBytes(w.wo.w));
    add(PassPart::kNorm, norm);
    const auto [gate, up, down] = FfnBytes(w);
    const auto neurons = static_cast<double>(n_tokens * config.layers[l].ffn.d_ff);
    const double asked = static_cast<double>(counts.layers[l].gates) / neurons;
    const double density = static_cast<double>(counts.layers[l].active) / neurons;
    touched.mean_density += density / static_cast<double>(weights.layers.size());
    touched.mean_gate_density += asked / static_cast<double>(weights.layers.size());
    if (mode != SparseMode::kDense) {
      add(PassPart::kGate, gate * asked);
      add(PassPart::kUp, up * density);
      add(PassPart::kDown, down * density);
      skipped += gate * (1 - asked) + (up + down) * (1 - density);
      if (mode != SparseMode::kPredicted) continue;
      for (const SlicePredictor& predictor : predictors[l]) {
        if (!predictor.runs) continue;
        add(PassPart::kPredict, static_cast<double>(predictor.touched_bytes));
        skipped -= static_cast<double>(predictor.touched_bytes);
      }
    } else {
      add(PassPart::kGate, gate + up);
      add(PassPart::kDown, down);
    }
  }
  touched.bytes = std::accumulate(touched.parts.begin(), touched.parts.end(), 0.0);
  touched.dense_bytes = touched.bytes + skipped;
  return touched;
}

}  // namespace thermocline
