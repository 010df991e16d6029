#include "runtime/load/model_cuts.h"

#include <utility>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr size_t kDownMatrix = 6;

}  // namespace

ModelCuts::ModelCuts(ModelThresholds thresholds, const ModelConfig& config,
                     const ModelWeights& weights, const ChannelOrders& orders, int64_t max_tokens,
                     std::span<Device* const> tiers)
    : thresholds_(std::move(thresholds)),
      config_(config),
      weights_(weights),
      orders_(orders),
      tiers_(tiers.begin(), tiers.end()) {
  const size_t n_layers = weights.layers.size();
  CHECK(thresholds_.layers.size() == n_layers);
  for (size_t l = 0; l < n_layers; ++l) {
    const LayerThresholds& from = thresholds_.layers[l];
    std::vector<Floats>& norms = down_norms_.emplace_back();
    std::vector<Floats>& gates = gate_weights_.emplace_back();
    for (size_t tier = 0; tier < weights.layers[l].slices.size(); ++tier) {
      norms.push_back(InOrderOf(static_cast<int64_t>(l), tier, from.norms[kDownMatrix]));
      gates.push_back(InOrderOf(static_cast<int64_t>(l), tier, from.gate_weights));
    }
  }
  Bind(&cuts_, max_tokens);
}

std::unique_ptr<ChannelCuts> ModelCuts::MakeCuts(int64_t max_tokens) {
  auto cuts = std::make_unique<ChannelCuts>();
  Bind(cuts.get(), max_tokens);
  return cuts;
}

void ModelCuts::Bind(ChannelCuts* cuts, int64_t max_tokens) {
  const size_t n_layers = weights_.layers.size();
  cuts->rows.resize(static_cast<size_t>(max_tokens));
  cuts->kept = std::vector<std::array<std::atomic<int64_t>, kCutMatrices>>(n_layers);
  cuts->layers.resize(n_layers);
  for (size_t l = 0; l < n_layers; ++l) {
    LayerCuts& layer = cuts->layers[l];
    const size_t n_tiers = weights_.layers[l].slices.size();
    layer.ffn.resize(n_tiers);
    const auto bind = [&](CutMatrix matrix, ChannelCut* cut) {
      cut->rows = cuts->rows.data();
      cut->kept = &cuts->kept[l][static_cast<size_t>(matrix)];
      cut->counter = static_cast<int32_t>(l * kCutMatrices + static_cast<size_t>(matrix));
    };
    bind(CutMatrix::kQ, &layer.q);
    bind(CutMatrix::kK, &layer.k);
    bind(CutMatrix::kV, &layer.v);
    bind(CutMatrix::kO, &layer.o);
    bool counted = false;
    for (size_t tier = 0; tier < n_tiers; ++tier) {
      FfnCuts& ffn = layer.ffn[tier];
      bind(CutMatrix::kGate, &ffn.gate);
      bind(CutMatrix::kUp, &ffn.up);
      bind(CutMatrix::kDown, &ffn.down);
      bind(CutMatrix::kActivated, &ffn.activated);
      if (counted) ffn.gate.kept = ffn.up.kept = &ignored_;
      counted = counted || weights_.layers[l].slices[tier].n_neurons > 0;
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

const float* ModelCuts::FactorsOn(size_t tier, const Floats& factors) {
  if (factors.empty()) return nullptr;
  Device& device = *tiers_[tier];
  if (device.queued() == nullptr) return factors.data();
  const float*& copy = copied_[{tier, factors.data()}];
  if (copy == nullptr) {
    const uint64_t n_bytes = factors.size() * sizeof(float);
    auto* const memory = static_cast<float*>(device.Allocate(n_bytes, "norms of columns"));
    device.Upload(memory, factors.data(), n_bytes);
    copy = memory;
  }
  return copy;
}

uint64_t ModelCuts::FactorBytes(const ModelConfig& config, ThresholdMethod method) {
  if (method != ThresholdMethod::kWina && method != ThresholdMethod::kNeurons) return 0;
  int64_t n = 0;
  for (int64_t l = 0; l < config.n_layers; ++l) {
    n += config.d_ff_of(l);
    if (method == ThresholdMethod::kNeurons) continue;
    n += 5 * config.d_model + config.layer(l).attention.q_dim();
  }
  return static_cast<uint64_t>(n) * sizeof(float);
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

void ModelCuts::Set(int64_t layer, ThresholdMethod method, const MatrixShares& shares,
                    ChannelCuts* to) {
  if (to == nullptr) to = &cuts_;
  ++to->version;
  const auto l = static_cast<size_t>(layer);
  const LayerThresholds& from = thresholds_.layers[l];
  const auto set = [&](CutMatrix matrix, size_t tier, const Floats& factors, ChannelCut* cut) {
    const auto m = static_cast<size_t>(matrix);
    cut->least = ThresholdFor(from, method, m, shares[m]);
    cut->factors = method == ThresholdMethod::kWina ? FactorsOn(tier, factors) : nullptr;
  };
  LayerCuts& cuts = to->layers[l];
  const auto norms = [&](CutMatrix matrix) -> const Floats& {
    return from.norms[static_cast<size_t>(matrix)];
  };
  const size_t attends = weights_.layers[l].attention_tier;
  set(CutMatrix::kQ, attends, norms(CutMatrix::kQ), &cuts.q);
  set(CutMatrix::kK, attends, norms(CutMatrix::kK), &cuts.k);
  set(CutMatrix::kV, attends, norms(CutMatrix::kV), &cuts.v);
  set(CutMatrix::kO, attends, norms(CutMatrix::kO), &cuts.o);
  for (size_t tier = 0; tier < cuts.ffn.size(); ++tier) {
    FfnCuts& ffn = cuts.ffn[tier];
    ffn.by_gate = false;
    if (weights_.layers[l].slices[tier].n_neurons == 0) continue;
    set(CutMatrix::kGate, tier, norms(CutMatrix::kGate), &ffn.gate);
    set(CutMatrix::kUp, tier, norms(CutMatrix::kUp), &ffn.up);
    set(CutMatrix::kDown, tier, down_norms_[l][tier], &ffn.down);
  }
}

void ModelCuts::SetGates(int64_t layer, ThresholdMethod method, double share) {
  ++cuts_.version;
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
        method == ThresholdMethod::kNeurons ? FactorsOn(tier, gate_weights_[l][tier]) : nullptr;
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

std::optional<double> ModelCuts::SkippedOf(const ChannelCounts& counts, size_t first,
                                           size_t end) const {
  double weights = 0;
  double skipped = 0;
  for (size_t l = 0; l < cuts_.layers.size(); ++l) {
    const auto sizes = MatrixSizes(config_, static_cast<int64_t>(l));
    for (size_t m = first; m < end; ++m) {
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
  if (weights == 0) return std::nullopt;
  return skipped / weights;
}

double ModelCuts::ShareSkipped(const ChannelCounts& counts) const {
  return SkippedOf(counts, 0, kMatrices).value_or(0);
}

ModelCuts::PartShares ModelCuts::SharesSkipped(const ChannelCounts& counts) const {
  constexpr auto kGateMatrix = static_cast<size_t>(CutMatrix::kGate);
  return {SkippedOf(counts, 0, kGateMatrix), SkippedOf(counts, kGateMatrix, kDownMatrix),
          SkippedOf(counts, kDownMatrix, kMatrices)};
}

}  // namespace thermocline
