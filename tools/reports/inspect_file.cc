#include "tools/reports/inspect_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>

#include "runtime/core/error.h"
#include "runtime/engine/engine.h"
#include "runtime/model/stored_ffn.h"
#include "runtime/placement/draft_file.h"
#include "runtime/placement/powerinfer_file.h"
#include "runtime/placement/predictor_file.h"
#include "runtime/text/tokenizer.h"
#include "tools/reports/messages.h"
#include "tools/reports/plan_table.h"

namespace thermocline {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kShownElements = 8;
constexpr std::string_view kOwnPrefix = "thermocline-";  // of general.architecture in files of ours

std::string KindOf(const GgufReader& gguf) {
  const std::string architecture = gguf.GetString("general.architecture").value_or("");
  if (architecture.starts_with(kOwnPrefix)) return architecture.substr(kOwnPrefix.size());
  if (IsPowerInferPlacement(gguf)) return "placement";
  if (IsPacked(gguf)) return "packed model";
  if (!gguf.tensors().empty()) return architecture.empty() ? "tensors" : "model";
  return gguf.Find("tokenizer.ggml.model") != nullptr ? "vocabulary" : "metadata";
}

// Writes a 32-bit float with the digits that make it, not with those of the double it is held in.
Json ElementJson(GgufType type, double value) {
  if (type != GgufType::kF32 || !std::isfinite(value)) return value;
  return std::stod(fmt::format("{}", static_cast<float>(value)));
}
template <typename T>
Json ElementJson(GgufType /*type*/, const T& value) {
  return value;
}

Json ArrayJson(const GgufValue& value) {
  Json first = Json::array();
  size_t count = 0;
  std::visit(
      [&](const auto& elements) {
        count = elements.size();
        for (size_t i = 0; i < std::min(count, kShownElements); ++i) {
          first.push_back(ElementJson(value.element_type, elements[i]));
        }
      },
      std::get<GgufValue::Array>(value.value));
  return {{"type", GgufTypeName(value.element_type)}, {"count", count}, {"first", first}};
}

Json ValueJson(const GgufValue& value) {
  if (value.type == GgufType::kArray) return ArrayJson(value);
  return std::visit(
      [&](const auto& held) -> Json {
        if constexpr (std::is_same_v<std::decay_t<decltype(held)>, GgufValue::Array>) {
          return nullptr;
        } else {
          return ElementJson(value.type, held);
        }
      },
      value.value);
}

Json MetadataJson(const GgufReader& gguf) {
  Json metadata = Json::object();
  for (const std::string& key : gguf.keys()) metadata[key] = ValueJson(*gguf.Find(key));
  return metadata;
}

// Returns the members of a split set by the one that was named: NAME-00002-of-00003.gguf.
Json FilesJson(const GgufReader& gguf) {
  Json files = Json::array();
  const size_t tail = std::string_view("00001-of-00001.gguf").size();
  if (gguf.n_files() == 1 || gguf.path().size() < tail) return {gguf.path()};
  const std::string prefix = gguf.path().substr(0, gguf.path().size() - tail);
  for (int i = 1; i <= gguf.n_files(); ++i) {
    files.push_back(fmt::format("{}{:05}-of-{:05}.gguf", prefix, i, gguf.n_files()));
  }
  return files;
}

// Returns a model's tensors by name: what each is for, and which tier holds it. It is empty where
// the file is no model that can be read.
std::map<std::string, ModelTensor> TensorsByName(const GgufReader& gguf) try {
  std::map<std::string, ModelTensor> tensors;
  const Family& family = FindFamily(gguf);
  ForEachTensor(gguf, family.tensors, ReadModelConfig(gguf, family),
                [&](const ModelTensor& tensor, const GgufTensorInfo* /*info*/) {
                  tensors[tensor.name] = tensor;
                });
  return tensors;
} catch (const Error&) {
  return {};
}

void AddTensors(const GgufReader& gguf, const std::map<std::string, ModelTensor>& known,
                Json* out) {
  struct Total {
    uint64_t n_tensors = 0;
    uint64_t n_bytes = 0;
  };
  std::map<std::string, Total> totals;
  uint64_t n_parameters = 0;
  Json tensors = Json::array();
  for (const GgufTensorInfo& tensor : gguf.tensors()) {
    const std::string type(DTypeName(tensor.dtype));
    ++totals[type].n_tensors;
    totals[type].n_bytes += tensor.n_bytes;
    n_parameters += tensor.n_elements;
    Json entry = {
        {"name", tensor.name}, {"type", type}, {"dims", tensor.dims}, {"bytes", tensor.n_bytes}};
    if (gguf.n_files() > 1) entry["file"] = tensor.split_index;
    if (const auto it = known.find(tensor.name); it != known.end()) {
      const ModelTensor& of_model = it->second;
      entry["role"] = TensorRoleName(of_model.row->role);
      entry["tier"] = TensorTierName(of_model.unused ? TensorTier::kNone : of_model.row->tier);
    }
    tensors.push_back(std::move(entry));
  }
  Json types = Json::array();
  for (const auto& [type, total] : totals) {
    types.push_back({{"type", type}, {"n_tensors", total.n_tensors}, {"bytes", total.n_bytes}});
  }
  (*out)["n_parameters"] = n_parameters;
  (*out)["types"] = types;
  (*out)["tensors"] = tensors;
}

Json ConfigJson(const ModelConfig& c) {
  const char* scaling = c.rope.scaling == RopeScaling::kYarn     ? "yarn"
                        : c.rope.scaling == RopeScaling::kLinear ? "linear"
                                                                 : "none";
  Json config = {{"architecture", c.architecture},
                 {"name", c.name},
                 {"n_layers", c.n_layers},
                 {"d_model", c.d_model},
                 {"d_ff", c.d_ff},
                 {"n_heads", c.n_heads},
                 {"n_kv_heads", c.n_kv_heads},
                 {"head_dim", c.head_dim},
                 {"vocab_size", c.vocab_size},
                 {"max_seq_len", c.max_seq_len},
                 {"activation", ActivationName(c.activation)},
                 {"tied_output", c.tied_output}};
  if (c.has_encoder()) {
    config["n_encoder_layers"] = c.n_encoder_layers;  // of n_layers
    config["decoder_start"] = c.decoder_start;
  }
  if (!c.has_equal_ffns() || !c.has_equal_heads()) {
    for (const LayerConfig& layer : c.layers) {
      config["layers"].push_back({{"d_ff", layer.ffn.d_ff},
                                  {"n_heads", layer.attention.n_heads},
                                  {"n_kv_heads", layer.attention.n_kv_heads}});
    }
  }
  config["rope_pairing"] = c.rope.pairing == RopePairing::kAdjacent ? "adjacent" : "halves";
  config["rope_rot_dim"] = c.rope.rot_dim;
  config["rope_freq_base"] = c.rope.freq_base;
  config["rope_scaling"] = c.rope.freq_divisors.empty() ? scaling : "llama3";
  config["rope_factor"] = c.rope.factor;
  return config;
}

// Adds the predictor inside a PowerInfer model. One that cannot be computed with keeps no model
// from running.
void AddPredictor(const GgufReader& gguf, const ModelConfig& config, Json* model) try {
  if (!HasPowerInferPredictor(gguf)) return;
  (*model)["predictor"] = "PowerInfer's, in this file";
  int64_t max_rank = 0;
  uint64_t n_bytes = 0;
  const std::vector<LayerPredictor> layers = ReadPowerInferPredictor(gguf, config);
  for (const LayerPredictor& layer : layers) {
    max_rank = std::max(max_rank, layer.in_proj.rows);
    n_bytes += layer.in_proj.weight_bytes() + layer.out_proj.weight_bytes();
  }
  (*model)["predictor_max_rank"] = max_rank;
  (*model)["predictor_bytes"] = n_bytes;
  (*model)["predictor_threshold"] =
      ElementJson(GgufType::kF32, layers[0].points[0].predictor_threshold);
} catch (const Error& error) {
  (*model)["predictor"] = "in this file, not usable: " + ErrorText(error);
}

// Adds the config as the runtime reads it, whether it can run the model, and what that takes.
void AddModel(const GgufReader& gguf, Json* out) {
  Json& model = (*out)["model"];
  try {
    const Family& family = FindFamily(gguf);
    model = ConfigJson(ReadModelConfig(gguf, family));
    EngineOptions options;
    options.model_path = gguf.path();
    const OpenedModel opened(options);
    MakeTokenizer(gguf);
    const MemoryPlan plan = opened.Plan();
    model["runs"] = true;
    model["default_mode"] = SparseModeName(opened.mode());
    model["context_tokens"] = plan.context_tokens;
    model["kv_bytes"] = plan.kv_bytes();
    model["kv_classes"] = KvClassesJson(plan);
    model["memory_bytes"] = plan.total_bytes(0);
    AddPredictor(gguf, opened.config(), &model);
  } catch (const Error& error) {
    model["runs"] = false;
    model["reason"] = ErrorText(error);
  }
}

void AddVocabulary(const GgufReader& gguf, Json* out) {
  if (gguf.Find("tokenizer.ggml.model") == nullptr) return;
  Json& vocabulary = (*out)["vocabulary"];
  try {
    const std::unique_ptr<Tokenizer> tokenizer = MakeTokenizer(gguf);
    vocabulary = {{"supported", true},
                  {"size", tokenizer->vocab_size()},
                  {"bos_id", tokenizer->bos_id()},
                  {"eos_id", tokenizer->eos_id()},
                  {"add_bos", tokenizer->add_bos()}};
  } catch (const Error& error) {
    vocabulary = {{"supported", false}, {"reason", ErrorText(error)}};
  }
}

void AddPlacement(const GgufReader& gguf, Json* out) {
  const Placement placement = ReadPlacement(gguf.path());
  Json layers = Json::array();
  for (const LayerPlacement& layer : placement.layers) {
    layers.push_back({{"vram", layer.n_on[kVram]},
                      {"dram", layer.n_on[kDram]},
                      {"nvme", layer.n_on[kNvme]},
                      {"attention", kPlacementTierNames[layer.attention]}});
  }
  // What PowerInfer's files do not say is null.
  const bool imported = placement.imported;
  (*out)["placement"] = {
      {"imported", imported},
      {"model_fingerprint", imported ? Json() : Json(placement.model_fingerprint)},
      {"vram_budget_bytes", placement.vram_budget_bytes},
      {"ram_budget_bytes", imported ? Json() : Json(placement.ram_budget_bytes)},
      {"predicted_ms_per_token",
       placement.prediction ? Json(placement.prediction->ms_per_token) : Json()},
      {"d_ff", placement.layers[0].neuron_order.size()},
      {"layer_neurons", layers}};
}

void AddPredictor(const GgufReader& gguf, Json* out) {
  const PredictorFile file = ReadPredictor(gguf.path());
  Json layers = Json::array();
  for (const StoredLayerPredictor& layer : file.layers) {
    Json points = Json::array();
    for (const OperatingPoint& point : layer.predictor.points) {
      points.push_back({{"recall", point.recall}, {"density", point.density}});
    }
    layers.push_back({{"true_density", layer.true_density}, {"points", points}});
  }
  (*out)["predictor"] = {{"method", PredictorKindName(file.kind)},
                         {"model_fingerprint", file.model_fingerprint},
                         {"rank", file.rank},
                         {"look_ahead", file.look_ahead},
                         {"finished", file.unfinished.empty()},
                         {"d_model", file.d_model},
                         {"d_ff", file.d_ff},
                         {"calibration_tokens", file.calibration_tokens},
                         {"heldout_tokens", file.heldout_tokens},
                         {"corpus_hash", file.corpus_hash},
                         {"bytes_per_token", file.LayerBytes() * file.layers.size()},
                         {"layers", layers}};
}

void AddDraft(const GgufReader& gguf, Json* out) {
  const DraftFile file = ReadDraft(gguf.path());
  Json layers = Json::array();
  for (const DraftLayer& layer : file.layers) {
    Json slices = Json::array();
    for (const DraftSlice& slice : layer.slices) {
      const bool there = slice.n_neurons > 0;
      slices.push_back({{"n_neurons", slice.n_neurons},
                        {"type", there ? Json(DTypeName(slice.gate.view.dtype)) : Json()}});
    }
    layers.push_back({{"n_hot", layer.n_hot},
                      {"slices", slices},
                      {"n_left_out", layer.n_left_out()},
                      {"bytes", layer.own_bytes()}});
  }
  (*out)["draft"] = {{"model_fingerprint", file.model_fingerprint},
                     {"d_model", file.d_model},
                     {"d_ff", file.d_ff},
                     {"rank", file.rank},
                     {"bias", file.has_bias()},
                     {"ranking", DraftRankingName(file.ranking)},
                     {"calibration_tokens", file.calibration_tokens},
                     {"heldout_tokens", file.heldout_tokens},
                     {"corpus_hash", file.corpus_hash},
                     {"acceptance", file.acceptance},
                     {"agreement", file.agreement},
                     {"n_replaced", file.replacements.size()},
                     {"own_bytes", file.own_bytes()},
                     {"layers", layers}};
}

}  // namespace

Json InspectFile(const GgufReader& gguf) {
  const std::string kind = KindOf(gguf);
  Json out = {{"path", gguf.path()},
              {"kind", kind},
              {"container", GgufMagic(gguf.container())},
              {"gguf_version", gguf.version()},
              {"alignment", gguf.alignment()},
              {"files", FilesJson(gguf)},
              {"file_bytes", gguf.file_bytes()},
              {"fingerprint", gguf.fingerprint()}};
  const bool is_model = kind == "model" || kind == "packed model";
  if (is_model) AddModel(gguf, &out);
  if (kind == "placement") AddPlacement(gguf, &out);
  if (kind == "predictor") AddPredictor(gguf, &out);
  if (kind == "draft") AddDraft(gguf, &out);
  AddVocabulary(gguf, &out);
  out["metadata"] = MetadataJson(gguf);
  AddTensors(gguf, is_model ? TensorsByName(gguf) : std::map<std::string, ModelTensor>(), &out);
  return out;
}

}  // namespace thermocline
