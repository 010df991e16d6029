// How a file stores a layer's FFN: gate, up and down apart as GGUF files have them, down with a row
// per neuron as PowerInfer's have it, or packed by us.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/gguf/gguf_reader.h"
#include "runtime/model/families.h"
#include "runtime/model/model.h"

namespace thermocline {

// For each layer, the channel that each neuron of the file is.
using ChannelOrders = std::vector<std::vector<int32_t>>;

// Reads a packed model's order of a layer's neurons: hot to cold, the channel of each. Throws Error
// unless each channel stands there once.
std::vector<int32_t> ReadPackedOrder(const GgufReader& gguf, const ModelConfig& config,
                                     int64_t layer);
// Reads the orders of every layer. It is empty where the file's order is that of its channels.
ChannelOrders ReadChannelOrders(const GgufReader& gguf, const ModelConfig& config);

// Returns a matrix of weights that the kernels can compute with. Throws Error where it is absent,
// of another shape or of another type.
TensorView RequireWeights(const GgufReader& gguf, const std::string& name, int64_t rows,
                          int64_t cols);
TensorView RequireWeights(const GgufReader& gguf, const ModelTensor& tensor);

// The weights of one layer's FFN as the file stores them. Throws Error where one is not there.
struct FileFfn {
  TensorView gate, up, down;               // up is empty in a plain FFN
  DownLayout layout = DownLayout::kStock;  // layout of down
};
FileFfn ReadFileFfn(const GgufReader& gguf, const Family& family, const ModelConfig& config,
                    int64_t layer);

}  // namespace thermocline
