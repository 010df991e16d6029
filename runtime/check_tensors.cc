// What a model file must hold before anything of it is read: presence, shape and type of its
// tensors.
#include <fmt/format.h>

#include "runtime/core/error.h"
#include "runtime/powerinfer_file.h"
#include "runtime/weights.h"

namespace thermocline {
TensorView RequireWeights(const GgufReader& gguf, const std::string& name, int64_t rows,
                          int64_t cols) {
  const TensorView view = gguf.RequireMatrix(name, rows, cols);
  if (!GetDTypeInfo(view.dtype).computable) {
    throw Error({.path = gguf.path(),
                 .what = "tensor " + name + " has a type that cannot be computed with",
                 .expected = WeightDTypeNames(),
                 .found = std::string(DTypeName(view.dtype)),
                 .hint = "`thermocline quantize` from the F16 model makes one that works"});
  }
  return view;
}

bool IsPacked(const GgufReader& gguf) { return gguf.Find(kPackedSourceKey) != nullptr; }

StoredDown FindDown(const GgufReader& gguf, const TensorNames& names, int64_t layer) {
  std::string per_neuron = LayerTensorName(names.w_down_t, layer);
  if (gguf.FindTensor(per_neuron) != nullptr) return {per_neuron, DownLayout::kPerNeuron};
  return {LayerTensorName(names.w_down, layer), DownLayout::kStock};
}

FileFfn ReadFileFfn(const GgufReader& gguf, const TensorNames& names, const ModelConfig& config,
                    int64_t layer) {
  FileFfn ffn;
  const int64_t d_ff = config.d_ff;
  const int64_t d_model = config.d_model;
  ffn.gate = RequireWeights(gguf, LayerTensorName(names.w_gate, layer), d_ff, d_model);
  if (IsPacked(gguf)) {
    const TensorView both =
        RequireWeights(gguf, LayerTensorName(kPackedUpDown, layer), d_ff, 2 * d_model);
    const int64_t block = GetDTypeInfo(both.dtype).block_elems;
    if (d_model % block != 0) {
      throw Error(
          {.path = gguf.path(),
           .what = "up and down rows of a packed layer cannot lie side by side",
           .expected = fmt::format("d_model a multiple of {} for {}", block, DTypeName(both.dtype)),
           .found = std::to_string(d_model),
           .hint = "pack the model again"});
    }
    ffn.up = both;
    ffn.up.cols = d_model;
    ffn.down = ffn.up;
    ffn.down.data += RowBytes(both.dtype, d_model);
    ffn.layout = DownLayout::kPerNeuron;
    return ffn;
  }
  ffn.up = RequireWeights(gguf, LayerTensorName(names.w_up, layer), d_ff, d_model);
  const StoredDown down = FindDown(gguf, names, layer);
  ffn.layout = down.layout;
  ffn.down = ffn.layout == DownLayout::kPerNeuron ? RequireWeights(gguf, down.name, d_ff, d_model)
                                                  : RequireWeights(gguf, down.name, d_model, d_ff);
  return ffn;
}

void CheckTensors(const GgufReader& gguf, const Family& family, const ModelConfig& config) {
  const TensorNames& names = family.names;
  const auto require = [&](const std::string& name, int64_t rows, int64_t cols) {
    RequireWeights(gguf, name, rows, cols);
  };
  const bool packed = IsPacked(gguf);
  const int64_t d = config.d_model;
  require(std::string(names.token_embd), config.vocab_size, d);
  require(std::string(names.output_norm), 1, d);
  if (!config.tied_output) require(std::string(names.output), config.vocab_size, d);
  for (int64_t l = 0; l < config.n_layers; ++l) {
    require(LayerTensorName(names.attn_norm, l), 1, d);
    require(LayerTensorName(names.wq, l), config.q_dim(), d);
    require(LayerTensorName(names.wk, l), config.kv_dim(), d);
    require(LayerTensorName(names.wv, l), config.kv_dim(), d);
    require(LayerTensorName(names.wo, l), d, config.q_dim());
    require(LayerTensorName(names.ffn_norm, l), 1, d);
    require(LayerTensorName(names.w_gate, l), config.d_ff, d);
    if (packed) {
      require(LayerTensorName(kPackedUpDown, l), config.d_ff, 2 * d);
    } else {
      require(LayerTensorName(names.w_up, l), config.d_ff, d);
      const StoredDown down = FindDown(gguf, names, l);
      const bool per_neuron = down.layout == DownLayout::kPerNeuron;
      require(down.name, per_neuron ? config.d_ff : d, per_neuron ? d : config.d_ff);
    }
  }
  CheckPowerInferPredictor(gguf, config);
}

}  // namespace thermocline
