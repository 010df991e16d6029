#include "runtime/placement/placement.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/core/error.h"
#include "runtime/gguf/gguf_writer.h"
#include "runtime/gguf/own_files.h"
#include "runtime/model/stored_ffn.h"
#include "runtime/placement/powerinfer_file.h"

namespace thermocline {
namespace {

constexpr const char* kPlacementFileType = "thermocline-placement";

std::string OrderName(size_t layer) { return fmt::format("blk.{}.neuron_order", layer); }
std::string CountsName(size_t layer) { return fmt::format("blk.{}.tier_neurons", layer); }
constexpr const char* kAttentionTiers = "attention_tiers";

void CheckPermutation(const GgufReader& gguf, const std::string& name,
                      const std::vector<int32_t>& order) {
  std::vector<bool> seen(order.size(), false);
  for (const int32_t id : order) {
    const bool valid = id >= 0 && static_cast<size_t>(id) < order.size();
    if (valid && !seen[static_cast<size_t>(id)]) {
      seen[static_cast<size_t>(id)] = true;
      continue;
    }
    throw Error({.path = gguf.path(),
                 .what = "tensor " + name,
                 .expected = fmt::format("each neuron 0 to {} once", order.size() - 1),
                 .found = fmt::format("{}{}", id, valid ? " twice" : "")});
  }
}

constexpr const char* kPredictedMsKey = "thermocline.predicted_ms_per_token";

double RequirePositive(const GgufReader& gguf, const char* key) {
  const std::optional<double> value = gguf.GetF64(key);
  if (value && *value > 0) return *value;
  throw Error({.path = gguf.path(),
               .what = fmt::format("key {}", key),
               .expected = "a number above 0",
               .found = value ? fmt::format("{}", *value) : "none"});
}

std::optional<PlacementPrediction> ReadPrediction(const GgufReader& gguf) {
  if (gguf.Find(kPredictedMsKey) == nullptr) return {};
  PlacementPrediction p;
  p.ms_per_token = RequirePositive(gguf, kPredictedMsKey);
  p.mode = gguf.RequireString("thermocline.predicted_mode");
  p.n_threads = static_cast<int64_t>(gguf.RequireU64("thermocline.predicted_threads", 1, 1 << 20));
  p.context_tokens =
      static_cast<int64_t>(gguf.RequireU64("thermocline.predicted_context", 0, uint64_t{1} << 40));
  p.fast_bytes_per_s = RequirePositive(gguf, "thermocline.fast_bytes_per_s");
  p.slow_bytes_per_s = RequirePositive(gguf, "thermocline.slow_bytes_per_s");
  p.machine = gguf.RequireString("thermocline.rates_machine");
  return p;
}

void SetPrediction(const PlacementPrediction& p, GgufWriter* writer) {
  writer->Set(kPredictedMsKey, GgufValue::f64(p.ms_per_token));
  writer->Set("thermocline.predicted_mode", GgufValue::string(p.mode));
  writer->Set("thermocline.predicted_threads", GgufValue::u64(static_cast<uint64_t>(p.n_threads)));
  writer->Set("thermocline.predicted_context",
              GgufValue::u64(static_cast<uint64_t>(p.context_tokens)));
  writer->Set("thermocline.fast_bytes_per_s", GgufValue::f64(p.fast_bytes_per_s));
  writer->Set("thermocline.slow_bytes_per_s", GgufValue::f64(p.slow_bytes_per_s));
  writer->Set("thermocline.rates_machine", GgufValue::string(p.machine));
}

// Reads a layer. It has as many neurons as its order has entries, most_neurons at the most.
LayerPlacement ReadLayer(const GgufReader& gguf, size_t layer, uint64_t most_neurons) {
  LayerPlacement out;
  const GgufTensorInfo* stored = gguf.FindTensor(OrderName(layer));
  const bool fits = stored != nullptr && stored->n_elements <= most_neurons;
  const auto d_ff = static_cast<int64_t>(fits ? stored->n_elements : most_neurons);
  out.neuron_order = ReadVector<int32_t>(gguf, OrderName(layer), DType::kI32, d_ff);
  CheckPermutation(gguf, OrderName(layer), out.neuron_order);
  const auto counts = ReadVector<int64_t>(gguf, CountsName(layer), DType::kI64, kPlacementTiers);
  int64_t total = 0;
  for (const int64_t count : counts) {
    const bool possible = count >= 0 && count <= d_ff - total;
    if (!possible) total = -1;
    if (!possible) break;
    total += count;
  }
  if (total != d_ff) {
    throw Error({.path = gguf.path(),
                 .what = "tensor " + CountsName(layer),
                 .expected = fmt::format("three counts with sum {}", d_ff),
                 .found = fmt::format("{}, {}, {}", counts[0], counts[1], counts[2])});
  }
  std::ranges::copy(counts, out.n_on.begin());
  return out;
}

// Reads on which tier each layer attends. Files of placements that have it on the first have none.
void ReadAttentionTiers(const GgufReader& gguf, std::vector<LayerPlacement>* layers) {
  if (gguf.FindTensor(kAttentionTiers) == nullptr) return;
  const auto tiers =
      ReadVector<int32_t>(gguf, kAttentionTiers, DType::kI32, static_cast<int64_t>(layers->size()));
  for (size_t l = 0; l < tiers.size(); ++l) {
    if (tiers[l] < 0 || static_cast<size_t>(tiers[l]) >= kPlacementTiers) {
      throw Error({.path = gguf.path(),
                   .what = fmt::format("tensor {}, layer {}", kAttentionTiers, l),
                   .expected = fmt::format("0 to {}", kPlacementTiers - 1),
                   .found = std::to_string(tiers[l])});
    }
    (*layers)[l].attention = static_cast<PlacementTier>(tiers[l]);
  }
}

}  // namespace

std::vector<uint8_t> AttendsAway(const Placement& placement) {
  std::vector<uint8_t> away;
  for (const LayerPlacement& layer : placement.layers) {
    away.push_back(layer.attention == kVram ? 0 : 1);
  }
  return away;
}

Placement ReadPlacement(const std::string& path) {
  const GgufReader gguf(path);
  if (IsPowerInferPlacement(gguf)) return ReadPowerInferPlacement(gguf);
  RequireFileType(gguf, kPlacementFileType, "placement", {Job::kProfile, Job::kPlace});
  Placement placement;
  placement.path = path;
  placement.model_fingerprint = gguf.RequireString("thermocline.model_fingerprint");
  placement.vram_budget_bytes = gguf.RequireU64("thermocline.vram_budget_bytes", 0, UINT64_MAX);
  placement.ram_budget_bytes = gguf.RequireU64("thermocline.ram_budget_bytes", 0, UINT64_MAX);
  placement.prediction = ReadPrediction(gguf);
  const uint64_t n_layers = gguf.RequireU64("thermocline.n_layers", 1, kMaxFileLayers);
  const uint64_t d_ff = gguf.RequireU64("thermocline.d_ff", 1, kMaxFileNeurons);
  for (size_t layer = 0; layer < n_layers; ++layer) {
    placement.layers.push_back(ReadLayer(gguf, layer, d_ff));
  }
  ReadAttentionTiers(gguf, &placement.layers);
  return placement;
}

void WritePlacement(const std::string& path, const Placement& placement) {
  CHECK(!placement.layers.empty());
  size_t d_ff = 0;  // the most neurons of any layer
  for (const LayerPlacement& layer : placement.layers) {
    d_ff = std::max(d_ff, layer.neuron_order.size());
  }
  GgufWriter writer(path);
  writer.Set("general.architecture", GgufValue::string(kPlacementFileType));
  writer.Set("thermocline.model_fingerprint", GgufValue::string(placement.model_fingerprint));
  writer.Set("thermocline.n_layers", GgufValue::u64(placement.layers.size()));
  writer.Set("thermocline.d_ff", GgufValue::u64(d_ff));
  writer.Set("thermocline.vram_budget_bytes", GgufValue::u64(placement.vram_budget_bytes));
  writer.Set("thermocline.ram_budget_bytes", GgufValue::u64(placement.ram_budget_bytes));
  if (placement.prediction) SetPrediction(*placement.prediction, &writer);
  for (size_t layer = 0; layer < placement.layers.size(); ++layer) {
    writer.DeclareTensor(OrderName(layer), DType::kI32,
                         {placement.layers[layer].neuron_order.size()});
    writer.DeclareTensor(CountsName(layer), DType::kI64, {kPlacementTiers});
  }
  std::vector<int32_t> attention;
  for (const LayerPlacement& layer : placement.layers) attention.push_back(layer.attention);
  const bool all_fast = std::ranges::count(attention, kVram) == std::ssize(attention);
  if (!all_fast) writer.DeclareTensor(kAttentionTiers, DType::kI32, {attention.size()});
  for (size_t layer = 0; layer < placement.layers.size(); ++layer) {
    const LayerPlacement& p = placement.layers[layer];
    writer.WriteTensor(OrderName(layer), p.neuron_order.data(),
                       p.neuron_order.size() * sizeof(int32_t));
    writer.WriteTensor(CountsName(layer), p.n_on.data(), sizeof(p.n_on));
  }
  if (!all_fast) {
    writer.WriteTensor(kAttentionTiers, attention.data(), attention.size() * sizeof(int32_t));
  }
  writer.Finish();
}

std::vector<std::string> ModelFingerprints(const GgufReader& gguf) {
  std::vector<std::string> fingerprints = {gguf.fingerprint()};
  for (const char* key : {kPackedSourceKey, kColumnsSourceKey}) {
    if (const auto source = gguf.GetString(key)) fingerprints.push_back(*source);
  }
  return fingerprints;
}

void CheckPlacementFits(const Placement& placement, const ModelConfig& config,
                        const std::string& model_path,
                        const std::vector<std::string>& fingerprints) {
  const auto& own = placement.model_fingerprint;
  if (!placement.imported &&
      std::find(fingerprints.begin(), fingerprints.end(), own) == fingerprints.end()) {
    throw Error({.path = placement.path,
                 .what = "the placement was made for another model",
                 .expected = fmt::format("fingerprint {} ({})", fingerprints.front(), model_path),
                 .found = Printable(own),
                 .hint = "profile this model, or name the model the placement was made for"});
  }
  const auto n_layers = static_cast<int64_t>(placement.layers.size());
  for (int64_t l = 0; l < std::max(n_layers, config.n_layers); ++l) {
    const bool both = l < n_layers && l < config.n_layers;
    const auto at = static_cast<size_t>(std::min(l, n_layers - 1));
    const auto found = static_cast<int64_t>(placement.layers[at].neuron_order.size());
    const int64_t d_ff = config.d_ff_of(std::min(l, config.n_layers - 1));
    if (both && found == d_ff) continue;
    const std::string in_layer = both ? fmt::format(" (in layer {})", l) : "";
    throw Error(
        {.path = placement.path,
         .what = "the placement's shape does not fit the model",
         .expected = fmt::format("{} layers of {} neurons{}", config.n_layers, d_ff, in_layer),
         .found = fmt::format("{} layers of {}", n_layers, found),
         .hint = "name the placement that was made for this model"});
  }
}

std::string PlacementFingerprint(const GgufReader& gguf) { return ModelFingerprints(gguf).back(); }

}  // namespace thermocline
