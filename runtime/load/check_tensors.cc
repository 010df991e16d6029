// What a model file must hold before its weights are read: presence, shape and type of its tensors,
// and of a packed one the orders of its neurons.
#include <fmt/format.h>

#include "runtime/core/error.h"
#include "runtime/load/weights.h"
#include "runtime/model/stored_ffn.h"
#include "runtime/placement/powerinfer_file.h"

namespace thermocline {

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
      ReadPackedOrder(gguf, config, l);
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
