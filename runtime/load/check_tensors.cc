// What a model file must hold before its weights are read: presence, shape and type of its tensors,
// of a packed one the orders of its neurons, and nothing that would be left out silently.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "runtime/core/error.h"
#include "runtime/gguf/own_files.h"
#include "runtime/load/weights.h"
#include "runtime/model/stored_ffn.h"
#include "runtime/placement/powerinfer_file.h"

namespace thermocline {
namespace {

// "blk.7.ffn_up.weight" -> 7, with the prefix "blk."; kNoLayer for names that begin otherwise.
int64_t LayerOf(std::string_view name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return kNoLayer;
  int64_t layer = kNoLayer;
  const auto [end, error] =
      std::from_chars(name.data() + prefix.size(), name.data() + name.size(), layer);
  const bool whole = error == std::errc() && end != name.data() + name.size() && *end == '.';
  return whole && layer >= 0 ? layer : kNoLayer;
}

// Checks the number that a key gives of layers whose tensors' names begin with the prefix.
void CheckLayerCount(const GgufReader& gguf, const std::string& key, const std::string& prefix,
                     int64_t n_layers) {
  int64_t last = kNoLayer;
  for (const GgufTensorInfo& tensor : gguf.tensors()) {
    last = std::max(last, LayerOf(tensor.name, prefix));
  }
  if (last == n_layers - 1) return;
  throw Error({.path = gguf.path(),
               .what = "key " + key + " and the tensors disagree",
               .expected = fmt::format("tensors of layers 0 to {}, the last of them named {}{}.*",
                                       n_layers - 1, prefix, n_layers - 1),
               .found = last == kNoLayer ? "tensors of no layer"
                                         : fmt::format("layers up to {}{}.*", prefix, last),
               .hint = "the file is incomplete, or of a variant with layers of another kind"});
}

void CheckLayerCounts(const GgufReader& gguf, const ModelConfig& config) {
  const std::string key = config.architecture + ".block_count";
  if (!config.has_encoder()) return CheckLayerCount(gguf, key, "blk.", config.n_layers);
  CheckLayerCount(gguf, key, "enc.blk.", config.n_encoder_layers);
  CheckLayerCount(gguf, config.architecture + ".decoder_block_count", "dec.blk.",
                  config.n_layers - config.n_encoder_layers);
}

// A tensor that is not computed with would make another model of this one.
[[noreturn]] void FailUnknown(const GgufReader& gguf, const Family& family,
                              const ModelConfig& config, const std::string& name) {
  bool of_another_form = false;
  ForEachNamed(family.tensors, config,
               [&](const ModelTensor& tensor) { of_another_form |= tensor.name == name; });
  if (of_another_form) {
    throw Error({.path = gguf.path(),
                 .what = "tensor " + name + " does not go together with how the FFN is stored",
                 .expected = IsPacked(gguf) ? "ffn_gate, ffn_up_down and neuron_order, as in a "
                                              "packed model"
                                            : "ffn_gate, ffn_up and one of ffn_down, ffn_down_t",
                 .found = name,
                 .hint = "the file is of two kinds at once: start from the model it was made of"});
  }
  throw Error({.path = gguf.path(),
               .what = "the model has a tensor that this version does not compute with",
               .expected = fmt::format("the tensors of a model of family {}", config.architecture),
               .found = Printable(name),
               .hint = "the model is a variant that is not supported; without this tensor its "
                       "output would be wrong"});
}

void CheckOne(const GgufReader& gguf, const ModelTensor& tensor) {
  if (tensor.rows == kAnyDim || tensor.cols == kAnyDim) return;  // CheckPowerInferPredictor
  switch (tensor.row->use) {
    case TensorUse::kTable:
    case TensorUse::kMatrix:
    case TensorUse::kVector:
      RequireWeights(gguf, tensor);
      return;
    case TensorUse::kIndices:
      RequireDType(gguf, tensor.name, gguf.RequireMatrix(tensor.name, tensor.rows, tensor.cols),
                   DType::kI32);
      return;
    case TensorUse::kSetting:  // checked where the config was read
      return;
  }
}

}  // namespace

void CheckTensors(const GgufReader& gguf, const Family& family, const ModelConfig& config) {
  CheckLayerCounts(gguf, config);
  std::set<std::string, std::less<>> read;
  ForEachTensor(gguf, family.tensors, config,
                [&](const ModelTensor& tensor, const GgufTensorInfo* /*info*/) {
                  CheckOne(gguf, tensor);
                  read.insert(tensor.name);
                });
  for (int64_t l = 0; IsPacked(gguf) && l < config.n_layers; ++l) ReadPackedOrder(gguf, config, l);
  CheckPowerInferPredictor(gguf, config);
  for (const GgufTensorInfo& tensor : gguf.tensors()) {
    if (!read.contains(tensor.name)) FailUnknown(gguf, family, config, tensor.name);
  }
}

}  // namespace thermocline
