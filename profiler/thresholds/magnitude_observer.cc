#include "profiler/thresholds/magnitude_observer.h"

#include <algorithm>
#include <cmath>

#include "profiler/activations/activation_counter.h"
#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"

namespace thermocline {
namespace {

constexpr size_t kGateMatrix = 4;
constexpr size_t kDownMatrix = 6;

std::vector<float> Narrowed(const std::vector<double>& values) {
  return {values.begin(), values.end()};
}

// Adds |x_j| factors[j] of rows [first, n). x: (n, d). factors: (d), or empty for 1.
void AddRows(const float* x, int64_t first, int64_t n, int64_t d, const std::vector<float>& factors,
             MagnitudeHistogram* histogram) {
  for (int64_t t = first; t < n; ++t) {
    const float* const row = x + t * d;
    if (factors.empty()) {
      histogram->Add(row, d);
      continue;
    }
    for (int64_t j = 0; j < d; ++j) histogram->Add(row[j] * factors[static_cast<size_t>(j)]);
  }
}

// Returns the norms of a matrix's rows.
std::vector<double> NormsOfRows(const TensorView& w) {
  return DownNorms(w, DownLayout::kPerNeuron);
}
std::vector<double> ColumnNorms(const TensorView& w) { return DownNorms(w, DownLayout::kStock); }

}  // namespace

MagnitudeObserver::MagnitudeObserver(const OpenedModel& model, const ChannelOrders& orders)
    : model_(model), orders_(orders) {
  const auto n_layers = static_cast<size_t>(model.config().n_layers);
  thresholds_.layers.resize(n_layers);
  down_norms_.resize(n_layers);
  gate_weights_.resize(n_layers);
  positions_.resize(n_layers);
  for (int64_t l = 0; l < model.config().n_layers; ++l) {
    ThrowIfInterrupted();
    ReadNorms(l);
  }
}

void MagnitudeObserver::ReadNorms(int64_t l) {
  const ModelConfig& config = model_.config();
  const auto index = static_cast<size_t>(l);
  LayerThresholds& layer = thresholds_.layers[index];
  ForEachLayerTensor(model_.gguf(), model_.family().tensors, config, l,
                     [&](const ModelTensor& tensor, const GgufTensorInfo* info) {
                       constexpr TensorRole kRoles[] = {TensorRole::kWq, TensorRole::kWk,
                                                        TensorRole::kWv, TensorRole::kWo};
                       const auto* const role = std::ranges::find(kRoles, tensor.row->role);
                       if (role == std::end(kRoles) || tensor.unused || info == nullptr) return;
                       layer.norms[static_cast<size_t>(role - kRoles)] =
                           Narrowed(InputNorms(RequireWeights(model_.gguf(), tensor)));
                     });
  const FileFfn file = ReadFileFfn(model_.gguf(), model_.family(), config, l);
  layer.norms[kGateMatrix] = Narrowed(InputNorms(file.gate));
  if (file.up.rows > 0) layer.norms[kGateMatrix + 1] = Narrowed(InputNorms(file.up));
  const std::vector<double> down = DownNorms(file.down, file.layout);
  std::vector<double> weights = down;
  if (file.up.rows > 0) {
    const std::vector<double> up = config.by_column ? ColumnNorms(file.up) : NormsOfRows(file.up);
    for (size_t i = 0; i < weights.size(); ++i) weights[i] *= up[i];
  }
  down_norms_[index] = Narrowed(down);
  gate_weights_[index] = Narrowed(weights);
  const auto by_channel = [&](const std::vector<float>& in_file) {
    if (orders_.empty()) return in_file;
    std::vector<float> ordered(in_file.size());
    for (size_t i = 0; i < in_file.size(); ++i) {
      ordered[static_cast<size_t>(orders_[index][i])] = in_file[i];
    }
    return ordered;
  };
  layer.norms[kDownMatrix] = by_channel(down_norms_[index]);
  layer.gate_weights = by_channel(gate_weights_[index]);
}

std::vector<double> MagnitudeObserver::InputNorms(const TensorView& w) const {
  return model_.config().by_column ? NormsOfRows(w) : ColumnNorms(w);
}

void MagnitudeObserver::BeginText() { std::ranges::fill(positions_, 0); }

// An activated gate is h / up; where up is 0 it is not known, and not counted.
void MagnitudeObserver::AddGates(size_t layer, const FfnObservation& seen, int64_t first,
                                 bool weighed) {
  LayerThresholds& to = thresholds_.layers[layer];
  MagnitudeHistogram& histogram = weighed ? to.weighed_gates : to.gates;
  const int64_t m = seen.slice->n_neurons;
  for (int64_t t = first; t < seen.n_tokens; ++t) {
    for (int64_t i = 0; i < m; ++i) {
      float gate = seen.h[t * m + i];
      if (seen.slice->is_gated()) {
        const float up = seen.up[t * m + i];
        if (up == 0) continue;
        gate /= up;
      }
      histogram.Add(weighed ? gate * gate_weights_[layer][static_cast<size_t>(i)] : gate);
    }
  }
}

// Each lane fills some histograms by itself.
void MagnitudeObserver::OnFfn(const Lane& lane, const FfnObservation& seen) {
  CHECK(seen.attention_x != nullptr && seen.slice->neuron_ids == nullptr);
  const ModelConfig& config = model_.config();
  const auto l = static_cast<size_t>(seen.layer);
  LayerThresholds& to = thresholds_.layers[l];
  const int64_t first = std::clamp<int64_t>(kUncutPositions - positions_[l], 0, seen.n_tokens);
  const int64_t d_att = config.layer(seen.layer).attention.q_dim();
  const float* const inputs[] = {seen.attention_x, seen.attended, seen.x, seen.h};
  const int64_t dims[] = {config.d_model, d_att, config.d_model, seen.slice->n_neurons};
  int next = 0;
  const auto mine = [&] { return next++ % lane.size == lane.rank; };
  for (size_t i = 0; i < kMatrixInputs; ++i) {
    if (mine()) AddRows(inputs[i], first, seen.n_tokens, dims[i], {}, &to.inputs[i]);
  }
  for (size_t m = 0; m < kMatrices; ++m) {
    const std::vector<float>& norms = m == kDownMatrix ? down_norms_[l] : to.norms[m];
    if (norms.empty() || !mine()) continue;
    AddRows(inputs[kInputOf[m]], first, seen.n_tokens, dims[kInputOf[m]], norms, &to.wina[m]);
  }
  if (mine()) AddGates(l, seen, first, /*weighed=*/false);
  if (mine()) AddGates(l, seen, first, /*weighed=*/true);
  lane.Sync();
  if (lane.rank == 0) positions_[l] += seen.n_tokens;
}

ModelThresholds MagnitudeObserver::Take(int64_t n_tokens) {
  thresholds_.n_tokens = n_tokens;
  return std::move(thresholds_);
}

}  // namespace thermocline
