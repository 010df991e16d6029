// Adapters as PEFT saves them. A tensor's name is that of a module of the Hugging Face model, whose
// place in a GGUF the tables of runtime/model/families say; B's rows take the order that converting
// gives the matrix's.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>

#include "runtime/core/error.h"
#include "runtime/import/hf_config.h"
#include "runtime/lora/lora_reader.h"
#include "runtime/model/families/all.h"
#include "runtime/safetensors/bounded_json.h"
#include "runtime/safetensors/safetensors.h"

namespace thermocline {
namespace {

constexpr JsonBounds kAdapterBounds = {
    .max_bytes = 16U << 20, .max_depth = 32, .max_values = 1U << 20};

// What must be absent, null, false or empty.
struct RefusedKey {
  const char* name;
  const char* why;
};
constexpr RefusedKey kRefusedKeys[] = {
    {"use_dora", "DoRA scales whole columns, which is not computed here"},
    {"use_qalora", "QA-LoRA pools its input, which is not computed here"},
    {"lora_bias", "biases of an adapter are not computed"},
    {"modules_to_save", "whole modules of an adapter are not computed"},
    {"rank_pattern", "every matrix must have the same rank"},
    {"alpha_pattern", "every matrix must have the same alpha"},
    {"layer_replication", "layers are not repeated"},
    {"target_parameters", "adapters of bare parameters are not computed"},
    {"trainable_token_indices", "changed embeddings are not computed"},
    {"alora_invocation_tokens", "an adapter is used for all tokens of a sequence"},
};

bool SaysNothing(const nlohmann::json& value) {
  if (value.is_boolean()) return !value.get<bool>();
  return value.is_null() || ((value.is_object() || value.is_array()) && value.empty());
}

// The rank and what the product is multiplied by. Throws Error for a config that asks for more than
// LoRA.
struct PeftScale {
  int64_t rank = 0;
  double scale = 0;
};
PeftScale ReadPeftConfig(const nlohmann::json& json, const std::string& path) {
  const HfConfig config(json, path);
  const std::string type = config.GetString("peft_type").value_or("LORA");
  if (type != "LORA") config.Fail("peft_type", "LORA", Printable(type));
  for (const RefusedKey& key : kRefusedKeys) {
    const nlohmann::json* value = config.Find(key.name);
    if (value == nullptr || SaysNothing(*value)) continue;
    config.Fail(key.name, "nothing", JsonKind(*value), key.why);
  }
  const std::string bias = config.GetString("bias").value_or("none");
  if (bias != "none") config.Fail("bias", "none", Printable(bias));
  const int64_t rank = config.RequireInt("r", 1, kMaxLoraRank);
  const auto alpha = config.GetFloat("lora_alpha");
  if (!alpha) config.Fail("lora_alpha", "a number", "no such key");
  const auto r = static_cast<double>(rank);
  const bool root = config.GetBool("use_rslora").value_or(false);  // arXiv:2312.03732
  return {rank, *alpha / (root ? std::sqrt(r) : r)};
}

// Whether a name is `pattern` with a layer in the place of "{}".
bool Matches(std::string_view name, std::string_view pattern, int64_t* layer) {
  const size_t hole = pattern.find("{}");
  if (hole == std::string_view::npos || !name.starts_with(pattern.substr(0, hole))) return false;
  const char* const begin = name.data() + hole;
  const char* const end = name.data() + name.size();
  const auto parsed = std::from_chars(begin, end, *layer);
  return parsed.ec == std::errc() &&
         std::string_view(parsed.ptr, static_cast<size_t>(end - parsed.ptr)) ==
             pattern.substr(hole + 2);
}

// Takes ".lora_A.weight" off a name. Returns whether it was there; so for B.
bool TakeEnding(std::string* name, bool* is_a) {
  for (const std::string_view factor : {".lora_A", ".lora_B"}) {
    for (const std::string_view ending : {".weight", ".default.weight"}) {
      const std::string whole = std::string(factor) + std::string(ending);
      if (!name->ends_with(whole)) continue;
      name->resize(name->size() - whole.size());
      *is_a = factor == ".lora_A";
      return true;
    }
  }
  return false;
}

std::string ConfigPath(const LoraFile& file) { return file.path() + "/adapter_config.json"; }
std::string WeightsPath(const LoraFile& file) { return file.path() + "/adapter_model.safetensors"; }

void Erase(std::string* name, std::string_view part) {
  if (const size_t at = name->find(part); at != std::string::npos) name->erase(at, part.size());
}

}  // namespace

LoraReader::Module LoraReader::FindModule(const std::string& name) const {
  const auto is_own = [&](const HfImport* each) {
    return each->architecture == config_.architecture;
  };
  const auto* const import = std::ranges::find_if(kAllImports, is_own);
  if (import == std::end(kAllImports)) {
    Fail("the adapter names modules as Hugging Face models do", "a GGUF adapter",
         fmt::format("a directory, for a model of {}", config_.architecture),
         "convert the adapter to GGUF");
  }
  std::string module = name;
  if (module.starts_with("base_model.model.")) Erase(&module, "base_model.model.");
  Erase(&module, "language_model.");
  if (module.starts_with((*import)->prefix)) module.erase(0, (*import)->prefix.size());
  for (const HfTensor& row : (*import)->tensors) {
    Module found;
    constexpr std::string_view kBlock = "blk.{}.";
    if (!row.gguf.starts_with(kBlock) || !Matches(module, row.hf, &found.layer)) continue;
    if (found.layer < 0 || found.layer >= config_.n_layers) break;
    found.name = name;
    found.stem = row.gguf.substr(kBlock.size());
    found.transform = row.transform;
    return found;
  }
  Fail(fmt::format("module {}", Printable(name)),
       fmt::format("a matrix of attention or of the FFN of {}, of {} layers", config_.architecture,
                   config_.n_layers),
       "another", "adapters of embeddings and of the output head are not computed");
}

void LoraReader::ReadPeft() {
  const auto config = ReadJsonFile(ConfigPath(file_), kAdapterBounds);
  const std::string path = WeightsPath(file_);
  if (!std::filesystem::exists(path)) {
    Fail("the adapter's weights", "adapter_model.safetensors", "no such file",
         "save the adapter with safe_serialization");
  }
  const MappedFile& mapped = file_.safetensors_.emplace(path);
  PutPeft(config, {mapped.data(), mapped.size()});
}

void LoraReader::ReadPeft(std::string_view config, std::span<const std::byte> weights) {
  PutPeft(ParseBoundedJson(config, ConfigPath(file_), kAdapterBounds), weights);
}

void LoraReader::PutPeft(const nlohmann::json& config, std::span<const std::byte> weights) {
  const PeftScale peft = ReadPeftConfig(config, ConfigPath(file_));
  const auto tensors = ParseSafetensors(weights, WeightsPath(file_));
  for (const SafetensorsTensor& tensor : tensors) {
    const std::string what = fmt::format("tensor {}", Printable(tensor.name));
    std::string name = tensor.name;
    bool is_a = false;
    if (!TakeEnding(&name, &is_a)) {
      Fail(what, "a name with .lora_A.weight or .lora_B.weight", "another",
           "embeddings, magnitudes and whole modules of an adapter are not computed");
    }
    const auto dtype = tensor.info().dtype;
    if (!dtype || !GetDTypeInfo(*dtype).computable) {
      Fail(what, "F32, F16 or BF16", std::string(tensor.info().name));
    }
    const bool matrix = tensor.shape.size() == 2 && tensor.shape[0] <= INT32_MAX &&
                        tensor.shape[1] <= INT32_MAX && tensor.n_elements > 0;
    if (!matrix) Fail(what, "a matrix", ShapeText(tensor.shape));
    const auto rank = tensor.shape[is_a ? 0 : 1];
    if (rank != static_cast<uint64_t>(peft.rank)) {
      Fail(what, fmt::format("a rank of {}, as adapter_config.json says", peft.rank),
           std::to_string(rank));
    }
    AddFactor(
        FindModule(name), is_a,
        DenseView(weights.data() + tensor.begin, *dtype, static_cast<int64_t>(tensor.shape[0]),
                  static_cast<int64_t>(tensor.shape[1])));
  }
  Finish([&](int64_t /*rank*/) { return peft.scale; });
}

}  // namespace thermocline
