#include "runtime/placement/powerinfer_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "runtime/core/error.h"
#include "runtime/gguf/own_files.h"
#include "runtime/model/families.h"
#include "runtime/model/stored_ffn.h"

namespace thermocline {
namespace {

constexpr std::string_view kOnGpu = "blk.{}.gpu_idx";
constexpr std::string_view kBucket = "blk.{}.gpu_bucket";
constexpr const char* kThresholdKey = "powerinfer.sparse_threshold";
constexpr const char* kVramKey = "split.vram_capacity";
constexpr const char* kPlacementArchitecture = "generic.gpu_index";
constexpr const char* kPlacementHint =
    "the file is damaged: let PowerInfer make it again, or profile the model with `thermocline "
    "profile`";

[[noreturn]] void FailPlacement(const GgufReader& gguf, std::string_view pattern, int64_t layer,
                                std::string expected, std::string found) {
  throw Error({.path = gguf.path(),
               .what = "tensor " + LayerTensorName(pattern, layer),
               .expected = std::move(expected),
               .found = std::move(found),
               .hint = kPlacementHint});
}

// Returns the rows of fc1. The caps of RequireMatrix's callers hold for it, as it is fc2's row
// length too.
int64_t Rank(const GgufReader& gguf, const ModelConfig& config, int64_t layer) {
  const GgufTensorInfo* in = gguf.FindTensor(LayerTensorName(kPowerInferIn, layer));
  if (in != nullptr && in->rows() <= kMaxFileNeurons) return static_cast<int64_t>(in->rows());
  throw Error({.path = gguf.path(),
               .what = "tensor " + LayerTensorName(kPowerInferIn, layer) +
                       (in == nullptr ? " is missing" : " has too many rows"),
               .expected = fmt::format("the predictor's first matrix: 1 to {} rows of {}",
                                       kMaxFileNeurons, config.d_model),
               .found = in == nullptr ? "" : fmt::format("{} rows", in->rows()),
               .hint = "PowerInfer stores a predictor in every layer: convert the model again"});
}

void CheckNoBias(const GgufReader& gguf, int64_t layer) {
  for (const std::string_view pattern : {"blk.{}.fc1.bias", "blk.{}.fc2.bias"}) {
    const std::string name = LayerTensorName(pattern, layer);
    if (gguf.FindTensor(name) == nullptr) continue;
    throw Error({.path = gguf.path(),
                 .what = "the predictor has a bias",
                 .expected = "fc1.weight and fc2.weight alone, as PowerInfer has them",
                 .found = name,
                 .hint = "use a model as PowerInfer's converter writes it"});
  }
}

// Reads the ids in the bucket, checked against the layer's 0s and 1s. They are empty where the file
// has none, which PowerInfer writes for a layer with no neuron on the GPU.
std::vector<int32_t> ReadBucket(const GgufReader& gguf, int64_t layer,
                                const std::vector<int32_t>& on_gpu) {
  const GgufTensorInfo* tensor = gguf.FindTensor(LayerTensorName(kBucket, layer));
  std::vector<int32_t> bucket;
  if (tensor != nullptr) {
    if (tensor->n_elements > on_gpu.size()) {
      FailPlacement(gguf, kBucket, layer, fmt::format("at most {} ids", on_gpu.size()),
                    std::to_string(tensor->n_elements));
    }
    bucket = ReadVector<int32_t>(gguf, tensor->name, DType::kI32,
                                 static_cast<int64_t>(tensor->n_elements));
  }
  std::vector<bool> seen(on_gpu.size(), false);
  for (const int32_t id : bucket) {
    if (id < 0 || static_cast<size_t>(id) >= on_gpu.size()) {
      FailPlacement(gguf, kBucket, layer, fmt::format("ids 0 to {}", on_gpu.size() - 1),
                    std::to_string(id));
    }
    const auto neuron = static_cast<size_t>(id);
    if (seen[neuron]) {
      FailPlacement(gguf, kBucket, layer, "each id once", fmt::format("{} twice", id));
    }
    if (on_gpu[neuron] != 1) {
      FailPlacement(gguf, kBucket, layer, "only neurons with a 1 in gpu_idx",
                    fmt::format("neuron {}, which has a 0", id));
    }
    seen[neuron] = true;
  }
  const auto n_on_gpu = std::count(on_gpu.begin(), on_gpu.end(), 1);
  if (static_cast<size_t>(n_on_gpu) != bucket.size()) {
    FailPlacement(gguf, kBucket, layer,
                  fmt::format("{} ids, as many as there are 1s in gpu_idx", n_on_gpu),
                  std::to_string(bucket.size()));
  }
  return bucket;
}

LayerPlacement ReadLayer(const GgufReader& gguf, int64_t layer, int64_t d_ff) {
  const auto on_gpu = ReadVector<int32_t>(gguf, LayerTensorName(kOnGpu, layer), DType::kI32, d_ff);
  for (size_t i = 0; i < on_gpu.size(); ++i) {
    if (on_gpu[i] == 0 || on_gpu[i] == 1) continue;
    FailPlacement(gguf, kOnGpu, layer, "0 or 1 for every neuron",
                  fmt::format("{} for neuron {}", on_gpu[i], i));
  }
  LayerPlacement out;
  out.neuron_order = ReadBucket(gguf, layer, on_gpu);
  out.n_on[kVram] = static_cast<int64_t>(out.neuron_order.size());
  out.n_on[kDram] = d_ff - out.n_on[kVram];
  for (int32_t id = 0; id < d_ff; ++id) {
    if (on_gpu[static_cast<size_t>(id)] == 0) out.neuron_order.push_back(id);
  }
  return out;
}

// Counts the layers that have a gpu_idx. A gap in their numbers shows when they are read in turn.
int64_t CountLayers(const GgufReader& gguf) {
  const auto is_layer = [](const GgufTensorInfo& t) { return t.name.ends_with(".gpu_idx"); };
  const auto n_found =
      static_cast<uint64_t>(std::count_if(gguf.tensors().begin(), gguf.tensors().end(), is_layer));
  const uint64_t n_layers =
      gguf.GetU64(std::string(kPlacementArchitecture) + ".block_count").value_or(n_found);
  if (n_layers == n_found && n_layers >= 1 && n_layers <= kMaxFileLayers) {
    return static_cast<int64_t>(n_layers);
  }
  throw Error({.path = gguf.path(),
               .what = "the number of layers",
               .expected = fmt::format("a gpu_idx in each of 1 to {} layers", kMaxFileLayers),
               .found = fmt::format("{} layers, {} with a gpu_idx", n_layers, n_found),
               .hint = kPlacementHint});
}

}  // namespace

bool HasPowerInferPredictor(const GgufReader& gguf) {
  return gguf.FindTensor(LayerTensorName(kPowerInferIn, 0)) != nullptr ||
         gguf.FindTensor(LayerTensorName(kPowerInferOut, 0)) != nullptr;
}

void CheckPowerInferPredictor(const GgufReader& gguf, const ModelConfig& config) {
  if (!HasPowerInferPredictor(gguf)) return;
  for (int64_t l = 0; l < config.n_layers; ++l) {
    const int64_t rank = Rank(gguf, config, l);
    gguf.RequireMatrix(LayerTensorName(kPowerInferIn, l), rank, config.d_model);
    gguf.RequireMatrix(LayerTensorName(kPowerInferOut, l), config.d_ff_of(l), rank);
    CheckNoBias(gguf, l);
  }
  gguf.GetF64(kThresholdKey);
}

std::vector<LayerPredictor> ReadPowerInferPredictor(const GgufReader& gguf,
                                                    const ModelConfig& config) {
  CheckPowerInferPredictor(gguf, config);
  OperatingPoint point;
  point.predictor_threshold = static_cast<float>(gguf.GetF64(kThresholdKey).value_or(0));
  std::vector<LayerPredictor> layers(static_cast<size_t>(config.n_layers));
  for (int64_t l = 0; l < config.n_layers; ++l) {
    const int64_t rank = Rank(gguf, config, l);
    LayerPredictor& layer = layers[static_cast<size_t>(l)];
    layer.in_proj = RequireWeights(gguf, LayerTensorName(kPowerInferIn, l), rank, config.d_model);
    layer.out_proj =
        RequireWeights(gguf, LayerTensorName(kPowerInferOut, l), config.d_ff_of(l), rank);
    layer.relu = true;
    layer.input = PredictorInput::kResidual;
    layer.points = {point};
  }
  return layers;
}

bool IsPowerInferPlacement(const GgufReader& gguf) {
  return gguf.container() == GgufContainer::kPowerInfer &&
         gguf.GetString("general.architecture") == kPlacementArchitecture;
}

Placement ReadPowerInferPlacement(const GgufReader& gguf) {
  CHECK(IsPowerInferPlacement(gguf));
  Placement placement;
  placement.path = gguf.path();
  placement.imported = true;
  placement.vram_budget_bytes = gguf.GetU64(kVramKey).value_or(0);
  const int64_t n_layers = CountLayers(gguf);
  const GgufTensorInfo* first = gguf.FindTensor(LayerTensorName(kOnGpu, 0));
  if (first == nullptr || first->n_elements > kMaxFileNeurons) {
    FailPlacement(gguf, kOnGpu, 0, fmt::format("1 to {} numbers", kMaxFileNeurons),
                  first == nullptr ? "no such tensor" : std::to_string(first->n_elements));
  }
  const auto d_ff = static_cast<int64_t>(first->n_elements);
  for (int64_t l = 0; l < n_layers; ++l) placement.layers.push_back(ReadLayer(gguf, l, d_ff));
  return placement;
}

}  // namespace thermocline
