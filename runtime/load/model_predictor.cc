#include "runtime/load/model_predictor.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "runtime/core/error.h"
#include "runtime/gguf/own_files.h"
#include "runtime/model/families.h"
#include "runtime/model/stored_ffn.h"
#include "runtime/placement/placement.h"
#include "runtime/placement/powerinfer_file.h"
#include "runtime/threads/parallel_for.h"

namespace thermocline {
namespace {

// PowerInfer computes a neuron whose score is its threshold or above, here the sum must be above 0.
constexpr float kAtOrAbove = std::numeric_limits<float>::min();

std::vector<int32_t> Consecutive(int64_t first, int64_t n) {
  std::vector<int32_t> rows(static_cast<size_t>(n));
  std::iota(rows.begin(), rows.end(), static_cast<int32_t>(first));
  return rows;
}

// Whether asking costs less than computing every gate. A density of 0 is one that is not known.
bool IsWorthIt(const SlicePredictor& predictor, const FfnSlice& slice) {
  const auto gate_bytes = static_cast<double>(slice.gate.weight_bytes());
  const auto density = static_cast<double>(predictor.layer.points.front().density);
  return static_cast<double>(predictor.touched_bytes) + gate_bytes * density / kListEfficiency <
         gate_bytes;
}

void Pack(SignRows& rows, int n_threads) {
  ParallelFor(rows.n_neurons(), kQuantBlock, n_threads,
              [&](int, int64_t begin, int64_t end) { rows.Pack(begin, end); });
}

}  // namespace

LayerPredictor CopyPredictor(const LayerPredictor& stored, std::span<const int32_t> rows,
                             size_t point, Device& device) {
  LayerPredictor out;
  out.relu = stored.relu;
  out.input = stored.input;
  out.points = {stored.points.at(point)};
  for (const int32_t row : rows) CHECK(row >= 0 && row < stored.out_proj.rows);
  out.in_proj = device.StoreRows(stored.in_proj, {}, "the predictor");
  out.out_proj = device.StoreRows(stored.out_proj, rows, "the predictor");
  OperatingPoint& chosen = out.points.front();
  std::vector<float> bias;
  for (const int32_t row : rows) {
    const float stored_bias = chosen.bias == nullptr ? 0.0F : chosen.bias[row];
    bias.push_back(stored_bias - chosen.predictor_threshold);
  }
  auto* memory = device.Allocate(bias.size() * sizeof(float), "the predictor");
  device.Upload(memory, bias.data(), bias.size() * sizeof(float));
  chosen.bias = static_cast<const float*>(memory);
  chosen.predictor_threshold = 0;
  return out;
}

ModelPredictor::ModelPredictor(const std::string& source, double recall, const GgufReader& gguf,
                               const ModelConfig& config)
    : gguf_(gguf), config_(config), source_(source) {
  if (source == kSignPredictor) {
    kind_ = PredictorKind::kSign;
    Layer layer;
    layer.stored.points = {{.predictor_threshold = static_cast<float>(
                                SignThreshold(kDefaultSignAlpha, config.d_model))}};
    layers_.assign(static_cast<size_t>(config.n_layers), layer);
  } else if (source.empty()) {
    OpenOwn();
  } else {
    OpenFile(source, recall);
  }
}

void ModelPredictor::OpenFile(const std::string& path, double recall) {
  file_ = std::make_shared<const PredictorFile>(ReadPredictor(path));
  CheckPredictorFits(*file_, config_, gguf_.path(), ModelFingerprints(gguf_));
  kind_ = file_->kind;
  for (const StoredLayerPredictor& layer : file_->layers) {
    layers_.push_back({layer.predictor, ChoosePoint(layer.predictor, recall)});
  }
}

void ModelPredictor::OpenOwn() {
  if (!HasPowerInferPredictor(gguf_)) {
    throw Error({.path = gguf_.path(),
                 .what = "the mode predicted needs a predictor, and the model brings none",
                 .hint = "build one and give its file, or try the signs of the gates",
                 .settings = {{Setting::kPredictor}, {Setting::kPredictor, "sign"}},
                 .jobs = {Job::kPredictor}});
  }
  kind_ = PredictorKind::kMlp;
  source_ = gguf_.path();
  by_file_row_ = true;
  for (LayerPredictor& layer : ReadPowerInferPredictor(gguf_, config_)) {
    float& threshold = layer.points.front().predictor_threshold;
    threshold = threshold == 0 ? -kAtOrAbove
                               : std::nextafter(threshold, -std::numeric_limits<float>::infinity());
    layers_.push_back({std::move(layer), 0});
  }
}

std::string ModelPredictor::Description() const {
  if (source_ == kSignPredictor) return "sign bits of the gates, not calibrated";
  if (by_file_row_) return "the model's own (PowerInfer), which does not tell its recall";
  double recall = 0;
  double density = 0;
  for (const Layer& layer : layers_) {
    recall += static_cast<double>(layer.stored.points[layer.point].recall);
    density += static_cast<double>(layer.stored.points[layer.point].density);
  }
  const auto n = static_cast<double>(layers_.size());
  return fmt::format("{} from {}, on its held-out text recall {:.3f} at density {:.1f} %",
                     PredictorKindName(kind_), source_, recall / n, 100 * density / n);
}

std::optional<double> ModelPredictor::Density(int64_t layer) const {
  if (IsSign() || by_file_row_) return {};
  const Layer& own = layers_[static_cast<size_t>(layer)];
  return own.stored.points[own.point].density;
}

int64_t ModelPredictor::max_rank() const {
  int64_t rank = 0;
  for (const Layer& layer : layers_) rank = std::max(rank, layer.stored.in_proj.rows);
  return rank;
}

PredictorInput ModelPredictor::input() const {
  for (const Layer& layer : layers_) {
    if (layer.stored.input != PredictorInput::kNormed) return layer.stored.input;
  }
  return PredictorInput::kNormed;
}

uint64_t ModelPredictor::Bytes(int64_t layer, int64_t n_neurons) const {
  if (n_neurons == 0) return 0;
  if (IsSign()) return static_cast<uint64_t>(n_neurons * ((config_.d_model + 63) / 64)) * 8;
  const LayerPredictor& stored = layers_[static_cast<size_t>(layer)].stored;
  const int64_t in = stored.in_proj.rows * RowBytes(stored.in_proj.dtype, stored.in_proj.cols);
  const int64_t out = n_neurons * RowBytes(stored.out_proj.dtype, stored.out_proj.cols);
  return static_cast<uint64_t>(in + out) + static_cast<uint64_t>(n_neurons) * sizeof(float);
}

// A packed model's own predictor has its rows in the file's order.
bool ModelPredictor::HasNeuronParts() const {
  return !IsSign() && !(by_file_row_ && IsPacked(gguf_));
}

ModelPredictor::NeuronPart ModelPredictor::PartOf(int64_t layer, int32_t channel) const {
  CHECK(HasNeuronParts());
  const Layer& own = layers_[static_cast<size_t>(layer)];
  const OperatingPoint& point = own.stored.points[own.point];
  const float bias = point.bias == nullptr ? 0.0F : point.bias[channel];
  return {own.stored.out_proj.row(channel), bias - point.predictor_threshold};
}

uint64_t ModelPredictor::OutRowBytes(int64_t layer) const {
  if (IsSign()) return 0;
  const TensorView& rows = layers_[static_cast<size_t>(layer)].stored.out_proj;
  return static_cast<uint64_t>(RowBytes(rows.dtype, rows.cols));
}

// The rows of the stored matrices for a slice whose neurons begin at `first` of the layer.
std::vector<int32_t> ModelPredictor::StoredRows(int64_t layer, const FfnSlice& slice,
                                                int64_t first) const {
  const auto n = static_cast<size_t>(slice.n_neurons);
  const bool packed = IsPacked(gguf_);
  if (packed && by_file_row_) return Consecutive(first, slice.n_neurons);
  if (slice.neuron_ids != nullptr) return {slice.neuron_ids, slice.neuron_ids + n};
  if (!packed) return Consecutive(0, slice.n_neurons);
  return ReadPackedOrder(gguf_, config_, layer);
}

SlicePredictor ModelPredictor::LoadLayer(int64_t layer, const FfnSlice& slice, int64_t first,
                                         Device& device) const {
  const Layer& source = layers_[static_cast<size_t>(layer)];
  SlicePredictor out;
  out.layer = CopyPredictor(source.stored, StoredRows(layer, slice, first), source.point, device);
  out.touched_bytes = Bytes(layer, slice.n_neurons);
  out.runs = IsWorthIt(out, slice);
  return out;
}

SlicePredictor ModelPredictor::PackSigns(int64_t layer, const FfnSlice& slice, Device& device,
                                         int n_threads, LoadedPredictor* out) const {
  const Layer& source = layers_[static_cast<size_t>(layer)];
  SlicePredictor predictor;
  predictor.layer.points = {source.stored.points[source.point]};
  predictor.touched_bytes = Bytes(layer, slice.n_neurons);
  predictor.runs = IsWorthIt(predictor, slice);
  if (!predictor.runs) return predictor;
  if (device.queued() != nullptr) {
    return StoreSigns(layer, slice, std::move(predictor), *device.queued(), n_threads);
  }
  out->signs.push_back(std::make_unique<SignRows>(CpuKernels(), slice.gate, slice.gate_bias));
  Pack(*out->signs.back(), n_threads);
  predictor.signs = out->signs.back().get();
  return predictor;
}

// Packed from the file's rows, which such a device has in a form of its own.
SlicePredictor ModelPredictor::StoreSigns(int64_t layer, const FfnSlice& slice,
                                          SlicePredictor predictor, QueuedDevice& device,
                                          int n_threads) const {
  CHECK(slice.n_neurons == config_.d_ff_of(layer));  // with one tier, in the file's order
  const ModelTensor gate = TensorOf(FindFamily(gguf_).tensors, TensorRole::kGate, config_, layer);
  std::vector<float> bias(slice.gate_bias == nullptr ? 0 : static_cast<size_t>(slice.n_neurons));
  if (!bias.empty()) device.Download(bias.data(), slice.gate_bias, bias.size() * sizeof(float));
  SignRows rows(CpuKernels(), gguf_.RequireMatrix(gate.name, gate.rows, gate.cols),
                bias.empty() ? nullptr : bias.data());
  Pack(rows, n_threads);
  predictor.device_signs = device.StoreSigns(rows);
  return predictor;
}

LoadedPredictor ModelPredictor::Load(const ModelWeights& weights, std::span<Device* const> tiers,
                                     bool placed, int n_threads) const {
  LoadedPredictor out;
  for (size_t l = 0; l < weights.layers.size(); ++l) {
    const std::vector<FfnSlice>& slices = weights.layers[l].slices;
    const auto layer = static_cast<int64_t>(l);
    LayerPredictors& predictors = out.layers.emplace_back(slices.size());
    int64_t first = 0;  // neuron of the slice, in the layer's order
    for (size_t tier = 0; tier < slices.size(); ++tier) {
      const FfnSlice& slice = slices[tier];
      const bool asked = slice.n_neurons > 0 && (tier > 0 || !placed);
      if (asked && IsSign()) {
        predictors[tier] = PackSigns(layer, slice, *tiers[tier], n_threads, &out);
      } else if (asked) {
        predictors[tier] = LoadLayer(layer, slice, first, *tiers[tier]);
      }
      first += slice.n_neurons;
    }
  }
  return out;
}

}  // namespace thermocline
