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
                 .hint = "quantise the F16 model to one of them",
                 .jobs = {Job::kQuantize}});
  }
  return view;
}

TensorView RequireWeights(const GgufReader& gguf, const ModelTensor& tensor) {
  return RequireWeights(gguf, tensor.name, tensor.rows, tensor.cols);
}

FileFfn ReadFileFfn(const GgufReader& gguf, const Family& family, const ModelConfig& config,
                    int64_t layer) {
  const auto read = [&](TensorRole role) {
    return RequireWeights(gguf, TensorOf(family.tensors, role, config, layer));
  };
  FileFfn ffn;
  const FfnForm form = ReadFfnForm(gguf, family.tensors, config, layer);
  ffn.layout = form == FfnForm::kStock ? DownLayout::kStock : DownLayout::kPerNeuron;
  ffn.gate = read(TensorRole::kGate);
  const bool gated = family.ffn == FfnKind::kGated;
  if (form != FfnForm::kPacked || !gated) {
    if (gated) ffn.up = read(TensorRole::kUp);
    ffn.down = read(form == FfnForm::kStock ? TensorRole::kDown : TensorRole::kDownT);
    return ffn;
  }
  const TensorView both = read(TensorRole::kUpDown);
  const int64_t block = GetDTypeInfo(both.dtype).block_elems;
  if (config.d_model % block != 0) {
    throw Error(
        {.path = gguf.path(),
         .what = "up and down rows of a packed layer cannot lie side by side",
         .expected = fmt::format("d_model a multiple of {} for {}", block, DTypeName(both.dtype)),
         .found = std::to_string(config.d_model),
         .hint = "pack the model again"});
  }
  ffn.up = both;
  ffn.up.cols = config.d_model;
  ffn.down = ffn.up;
  ffn.down.data += RowBytes(both.dtype, config.d_model);
  return ffn;
}

std::vector<int32_t> ReadPackedOrder(const GgufReader& gguf, const ModelConfig& config,
                                     int64_t layer) {
  const std::string name = LayerTensorName(kPackedOrder, config, layer);
  const int64_t d_ff = config.d_ff_of(layer);
  const TensorView view = gguf.RequireMatrix(name, 1, d_ff);
  std::vector<int32_t> order(static_cast<size_t>(d_ff));
  if (view.dtype == DType::kI32) {
    std::memcpy(order.data(), view.data, order.size() * sizeof(int32_t));
  }
  std::vector<bool> seen(order.size());
  for (const int32_t channel : order) {
    const bool fits = channel >= 0 && channel < d_ff;
    if (fits && !seen[static_cast<size_t>(channel)]) {
      seen[static_cast<size_t>(channel)] = true;
      continue;
    }
    throw Error({.path = gguf.path(),
                 .what = "tensor " + name,
                 .expected = fmt::format("I32, each neuron 0 to {} once", d_ff - 1),
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
