#include "runtime/load/model_cuts.h"

#include <utility>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr size_t kDownMatrix = 6;

const float* DataOf(const std::vector<float>& values) {
  return values.empty() ? nullptr : values.data();
}

}  // namespace

ModelCuts::ModelCuts(ModelThresholds thresholds, const ModelConfig& config,
                     const ModelWeights& weights, const ChannelOrders& orders, int64_t max_tokens)
    : thresholds_(std::move(thresholds)), config_(config), weights_(weights), orders_(orders) {
  const size_t n_layers = weights.layers.size();
  CHECK(thresholds_.layers.size() == n_layers);
  cuts_.rows.resize(static_cast<size_t>(max_tokens));
  cuts_.kept = std::vector<std::array<std::atomic<int64_t>, kCutMatrices>>(n_layers);
  cuts_.layers.resize(n_layers);
  for (size_t l = 0; l < n_layers; ++l) {
    const LayerThresholds& from = thresholds_.layers[l];
    LayerCuts& layer = cuts_.layers[l];
    const size_t n_tiers = weights.layers[l].slices.size();
    layer.ffn.resize(n_tiers);
    std::vector<Floats>& norms = down_norms_.emplace_back();
    std::vector<Floats>& gates = gate_weights_.emplace_back();
    for (size_t tier = 0; tier < n_tiers; ++tier) {
      norms.push_back(InOrderOf(static_cast<int64_t>(l), tier, from.norms[kDownMatrix]));
      gates.push_back(InOrderOf(static_cast<int64_t>(l), tier, from.gate_weights));
    }
    const auto bind = [&](CutMatrix matrix, ChannelCut* cut) {
      cut->rows = cuts_.rows.data();
      cut->kept = &cuts_.kept[l][static_cast<size_t>(matrix)];
    };
    bind(CutMatrix::kQ, &layer.q);
    bind(CutMatrix::kK, &layer.k);
    bind(CutMatrix::kV, &layer.v);
    bind(CutMatrix::kO, &layer.o);
    for (FfnCuts& ffn : layer.ffn) {
      bind(CutMatrix::kGate, &ffn.gate);
      bind(CutMatrix::kUp, &ffn.up);
      bind(CutMatrix::kDown, &ffn.down);
      bind(CutMatrix::kActivated, &ffn.activated);
    }
  }
}

ModelCuts::Floats ModelCuts::InOrderOf(int64_t layer, size_t tier, const Floats& by_channel) const {
  const auto l = static_cast<size_t>(layer);
  const FfnSlice& slice = weights_.layers[l].slices[tier];
  if (by_channel.empty() || slice.n_neurons == 0) return {};
  const int32_t* ids = slice.neuron_ids;
  if (ids == nullptr && !orders_.empty()) ids = orders_[l].data();
  Floats ordered;
  for (int64_t i = 0; i < slice.n_neurons; ++i) {
    ordered.push_back(by_channel[static_cast<size_t>(ids == nullptr ? i : ids[i])]);
  }
  return ordered;
}

void ModelCuts::Choose(const ThresholdChoice& choice, ThresholdSplit split) {
  choice_ = choice;
  cuts_.ffn_mode = choice.ffn_mode;
  const int64_t n_layers = config_.n_layers;
  split = SplitOf(thresholds_, choice.method, split);
  ThresholdChoice asked = choice;
  // What was measured is of cuts in all matrices.
  if (choice.ffn_mode == SparseMode::kThreshold) {
    asked.sparsity = ShareToAsk(thresholds_, choice.method, split, choice.sparsity);
  }
  if (choice.by_gate()) {
    for (int64_t l = 0; l < n_layers; ++l) SetGates(l, choice.method, asked.sparsity);
    return;
  }
  const auto shares = ChooseShares(thresholds_, asked, split, config_);
  for (int64_t l = 0; l < n_layers; ++l) Set(l, choice.method, shares[static_cast<size_t>(l)]);
}

void ModelCuts::Set(int64_t layer, ThresholdMethod method, const MatrixShares& shares) {
  const auto l = static_cast<size_t>(layer);
  const LayerThresholds& from = thresholds_.layers[l];
  const auto set = [&](CutMatrix matrix, const float* factors, ChannelCut* cut) {
    const auto m = static_cast<size_t>(matrix);
    cut->least = ThresholdFor(from, method, m, shares[m]);
    cut->factors = method == ThresholdMethod::kWina ? factors : nullptr;
  };
  LayerCuts& cuts = cuts_.layers[l];
  const auto norms = [&](CutMatrix matrix) {
    return DataOf(from.norms[static_cast<size_t>(matrix)]);
  };
  set(CutMatrix::kQ, norms(CutMatrix::kQ), &cuts.q);
  set(CutMatrix::kK, norms(CutMatrix::kK), &cuts.k);
  set(CutMatrix::kV, norms(CutMatrix::kV), &cuts.v);
  set(CutMatrix::kO, norms(CutMatrix::kO), &cuts.o);
  for (size_t tier = 0; tier < cuts.ffn.size(); ++tier) {
    FfnCuts& ffn = cuts.ffn[tier];
    ffn.by_gate = false;
    set(CutMatrix::kGate, norms(CutMatrix::kGate), &ffn.gate);
    set(CutMatrix::kUp, norms(CutMatrix::kUp), &ffn.up);
    set(CutMatrix::kDown, DataOf(down_norms_[l][tier]), &ffn.down);
  }
}

void ModelCuts::SetGates(int64_t layer, ThresholdMethod method, double share) {
  const auto l = static_cast<size_t>(layer);
  LayerCuts& cuts = cuts_.layers[l];
  for (ChannelCut* cut : {&cuts.q, &cuts.k, &cuts.v, &cuts.o}) {
    cut->least = 0;
    cut->factors = nullptr;
  }
  for (size_t tier = 0; tier < cuts.ffn.size(); ++tier) {
    FfnCuts& ffn = cuts.ffn[tier];
    ffn.by_gate = true;
    ffn.activated.least = ThresholdFor(thresholds_.layers[l], method, kDownMatrix, share);
    ffn.activated.factors =
        method == ThresholdMethod::kNeurons ? DataOf(gate_weights_[l][tier]) : nullptr;
  }
}

bool ModelCuts::IsCut(size_t layer, CutMatrix matrix) const {
  const LayerCuts& cuts = cuts_.layers[layer];
  switch (matrix) {
    case CutMatrix::kQ:
      return cuts.q.least > 0;
    case CutMatrix::kK:
      return cuts.k.least > 0;
    case CutMatrix::kV:
      return cuts.v.least > 0;
    case CutMatrix::kO:
      return cuts.o.least > 0;
    case CutMatrix::kActivated:
      return cuts.ffn.front().by_gate;
    default:
      return cuts_.ffn_mode == SparseMode::kThreshold && !cuts.ffn.front().by_gate;
  }
}

double ModelCuts::ShareRead(const ChannelCounts& counts, size_t layer, CutMatrix matrix) const {
  if (counts.rows == 0 || !IsCut(layer, matrix)) return 1;
  const auto l = static_cast<int64_t>(layer);
  const bool of_neurons = matrix == CutMatrix::kDown || matrix == CutMatrix::kActivated;
  const int64_t d_in = of_neurons                ? config_.d_ff_of(l)
                       : matrix == CutMatrix::kO ? config_.layer(l).attention.q_dim()
                                                 : config_.d_model;
  return static_cast<double>(counts.kept[layer][static_cast<size_t>(matrix)]) /
         static_cast<double>(counts.rows * d_in);
}

double ModelCuts::ShareSkipped(const ChannelCounts& counts) const {
  double weights = 0;
  double skipped = 0;
  for (size_t l = 0; l < cuts_.layers.size(); ++l) {
    const auto sizes = MatrixSizes(config_, static_cast<int64_t>(l));
    for (size_t m = 0; m < kMatrices; ++m) {
      const bool of_ffn = m >= static_cast<size_t>(CutMatrix::kGate);
      if (choice_.by_gate() ? m < static_cast<size_t>(CutMatrix::kUp)
                            : of_ffn && choice_.ffn_mode != SparseMode::kThreshold) {
        continue;
      }
      const auto matrix = choice_.by_gate() ? CutMatrix::kActivated : static_cast<CutMatrix>(m);
      weights += static_cast<double>(sizes[m]);
      skipped += static_cast<double>(sizes[m]) * (1 - ShareRead(counts, l, matrix));
    }
  }
  return weights == 0 ? 0 : skipped / weights;
}

}  // namespace thermocline
