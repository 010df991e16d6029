#include "runtime/engine/touched_bytes.h"

#include <algorithm>
#include <numeric>

namespace thermocline {
namespace {

double WeightBytes(const TensorView& w) { return static_cast<double>(w.weight_bytes()); }

// Gate, up and down of a layer's neurons on one tier, and on all.
std::array<double, 3> SliceBytes(const FfnSlice& slice) {
  if (slice.n_neurons == 0) return {};
  return {WeightBytes(slice.gate), WeightBytes(slice.up), WeightBytes(slice.down)};
}
std::array<double, 3> FfnBytes(const LayerWeights& layer) {
  std::array<double, 3> bytes{};
  for (const FfnSlice& slice : layer.slices) {
    const std::array<double, 3> own = SliceBytes(slice);
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] += own[i];
  }
  return bytes;
}

// What runs beside attention and FFN; the router reads a token twice.
double BesideBytes(const LayerWeights& w) {
  return 2 * WeightBytes(w.router.w) + WeightBytes(w.laurel_left.w) +
         WeightBytes(w.laurel_right.w) + WeightBytes(w.layer_gate.w) + WeightBytes(w.layer_proj.w);
}

// Bytes per token of a layer's neurons on one tier, as far as the mode computed them. Thresholds
// are counted for all tiers together: what they skip counts as the first tier's.
double SlowBytes(const FfnSlice& slice, const FfnCounts& counts, size_t layer, size_t tier,
                 SparseMode mode) {
  const auto [gate, up, down] = SliceBytes(slice);
  const bool by_neuron = mode == SparseMode::kExact || mode == SparseMode::kPredicted;
  if (!by_neuron || slice.n_neurons == 0 || tier >= counts.tiers.size()) return gate + up + down;
  const FfnCount& count = counts.tiers[tier][layer];
  const auto all = static_cast<double>(slice.n_neurons * std::max<int64_t>(1, counts.tokens));
  return gate * static_cast<double>(count.gates) / all +
         (up + down) * static_cast<double>(count.active) / all;
}

}  // namespace

TouchedBytes TouchedPerToken(const Engine& engine, const FfnCounts& counts, SparseMode mode) {
  const ModelConfig& config = engine.config();
  const ModelWeights& weights = engine.weights();
  const std::span<const LayerPredictors> predictors = engine.predictors();
  TouchedBytes touched;
  const bool cuts = mode == SparseMode::kThreshold;
  if (cuts) mode = engine.cuts()->choice().ffn_mode;
  const auto add = [&](PassPart part, double bytes) {
    touched.parts[static_cast<size_t>(part)] += bytes;
  };
  const double norm = static_cast<double>(config.d_model) * sizeof(float);
  const auto row_bytes = [](const TensorView& w) {
    return w.empty() ? 0 : static_cast<double>(RowBytes(w.dtype, w.cols));
  };
  // What tiers behind the first read: the first has all the rest.
  touched.tiers.assign(counts.tiers.size(), 0);
  const auto add_slow = [&](size_t tier, double bytes) {
    if (tier < touched.tiers.size()) touched.tiers[tier] += bytes;
  };
  add(PassPart::kEmbed, row_bytes(weights.token_embd) + row_bytes(weights.layer_embd) +
                            WeightBytes(weights.layer_embd_proj.w));
  for (const LinearWeights& w : weights.to_streams) add(PassPart::kEmbed, WeightBytes(w.w));
  for (const LinearWeights& w : weights.from_streams) add(PassPart::kHead, WeightBytes(w.w));
  add(PassPart::kHead, norm + WeightBytes(weights.output.w));
  const int64_t n_tokens = std::max<int64_t>(1, counts.tokens);
  double skipped = 0;
  // An encoder's layers read a text once, and no token after it.
  const auto n_layers = static_cast<double>(config.n_kv_layers());
  for (auto l = static_cast<size_t>(config.n_encoder_layers); l < weights.layers.size(); ++l) {
    const LayerWeights& w = weights.layers[l];
    // Returns the bytes read of a matrix that thresholds may be for.
    const auto read = [&](CutMatrix matrix, double bytes) {
      const double left =
          cuts ? bytes * engine.cuts()->ShareRead(counts.channels, l, matrix) : bytes;
      skipped += bytes - left;
      return left;
    };
    const double qkv = read(CutMatrix::kQ, WeightBytes(w.wq.w)) +
                       read(CutMatrix::kK, WeightBytes(w.wk.w)) +
                       read(CutMatrix::kV, WeightBytes(w.wv.w));
    const double output = read(CutMatrix::kO, WeightBytes(w.wo.w));
    add(PassPart::kQkv, norm + qkv);
    add(PassPart::kOutput, output);
    if (w.attention_tier > 0) add_slow(w.attention_tier, qkv + output);
    if (w.cross_norm) {
      add(PassPart::kQkv, norm + WeightBytes(w.cross_q.w));
      add(PassPart::kOutput, WeightBytes(w.cross_o.w));
    }
    add(PassPart::kMerge, BesideBytes(w));
    add(PassPart::kNorm, norm);
    const auto [gate, up, down] = FfnBytes(w);
    const auto neurons = static_cast<double>(n_tokens * config.layers[l].ffn.d_ff);
    const double asked = static_cast<double>(counts.layers[l].gates) / neurons;
    const double density = static_cast<double>(counts.layers[l].active) / neurons;
    touched.mean_density += density / n_layers;
    touched.mean_gate_density += asked / n_layers;
    for (size_t tier = 1; tier < w.slices.size(); ++tier) {
      add_slow(tier, SlowBytes(w.slices[tier], counts, l, tier, mode));
      if (mode != SparseMode::kPredicted || !predictors[l][tier].runs) continue;
      add_slow(tier, static_cast<double>(predictors[l][tier].touched_bytes));
    }
    if (mode == SparseMode::kThreshold) {
      const bool by_gate = engine.cuts()->choice().by_gate();
      add(PassPart::kGate, read(CutMatrix::kGate, gate));
      add(PassPart::kUp, read(by_gate ? CutMatrix::kActivated : CutMatrix::kUp, up));
      add(PassPart::kDown, read(by_gate ? CutMatrix::kActivated : CutMatrix::kDown, down));
    } else if (mode != SparseMode::kDense) {
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
  if (cuts) {
    touched.sparsity = engine.cuts()->ShareSkipped(counts.channels);
    touched.skipped = engine.cuts()->SharesSkipped(counts.channels);
  }
  if (!touched.tiers.empty()) {
    touched.tiers[0] =
        touched.bytes - std::accumulate(touched.tiers.begin() + 1, touched.tiers.end(), 0.0);
  }
  return touched;
}

}  // namespace thermocline
