#include "runtime/model/stored_ffn.h"

#include <fmt/format.h>

#include <cstring>

#include "runtime/core/error.h"

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

std::vector<int32_t> ReadPackedOrder(const GgufReader& gguf, const ModelConfig& config,
                                     int64_t layer) {
  const std::string name = LayerTensorName(kPackedOrder, layer);
  const TensorView view = gguf.RequireMatrix(name, 1, config.d_ff);
  std::vector<int32_t> order(static_cast<size_t>(config.d_ff));
  if (view.dtype == DType::kI32) {
    std::memcpy(order.data(), view.data, order.size() * sizeof(int32_t));
  }
  std::vector<bool> seen(order.size());
  for (const int32_t channel : order) {
    const bool fits = channel >= 0 && channel < config.d_ff;
    if (fits && !seen[static_cast<size_t>(channel)]) {
      seen[static_cast<size_t>(channel)] = true;
      continue;
    }
    throw Error({.path = gguf.path(),
                 .what = "tensor " + name,
                 .expected = fmt::format("I32, each neuron 0 to {} once", config.d_ff - 1),
                 .found = fits ? fmt::format("{} twice", channel) : "something else",
                 .hint = "pack the model again"});
  }
  return order;
}

ChannelOrders ReadChannelOrders(const GgufReader& gguf, const ModelConfig& config) {
  ChannelOrders orders;
  if (!IsPacked(gguf)) return orders;
  for (int64_t l = 0; l < config.n_layers; ++l) orders.push_back(ReadPackedOrder(gguf, config, l));
  return orders;
}

}  // namespace thermocline
