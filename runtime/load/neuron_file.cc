#include "runtime/load/neuron_file.h"

#include <algorithm>

#include "cpu_kernels/kernels.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {

void CopyRow(const TensorView& matrix, int64_t row, std::vector<std::byte>* out) {
  const std::byte* const from = matrix.row(row);
  out->assign(from, from + RowBytes(matrix.dtype, matrix.cols));
}

std::vector<float> WidenedVector(const TensorView& view) {
  std::vector<float> values(static_cast<size_t>(view.rows * view.cols));
  for (int64_t r = 0; r < view.rows; ++r) {
    CpuKernels().dequantize_f32(view.dtype, view.row(r), 0, view.cols,
                                values.data() + r * view.cols);
  }
  return values;
}

}  // namespace

NeuronFile::NeuronFile(const GgufReader& gguf, const Family& family, const ModelConfig& config,
                       const DownStorage& down)
    : config_(config), down_(down) {
  const ChannelOrders orders = ReadChannelOrders(gguf, config);
  for (int64_t l = 0; l < config.n_layers; ++l) {
    Layer& layer = layers_.emplace_back();
    layer.ffn = ReadFileFfn(gguf, family, config, l);
    ForEachLayerTensor(gguf, family.tensors, config, l,
                       [&](const ModelTensor& tensor, const GgufTensorInfo* /*info*/) {
                         if (tensor.row->neuron_vector == nullptr) return;
                         layer.vectors.emplace_back(tensor.row->neuron_vector,
                                                    WidenedVector(RequireWeights(gguf, tensor)));
                       });
    if (orders.empty()) continue;
    const std::vector<int32_t>& order = orders[static_cast<size_t>(l)];
    layer.row_of.resize(order.size());
    for (size_t i = 0; i < order.size(); ++i) {
      layer.row_of[static_cast<size_t>(order[i])] = static_cast<int32_t>(i);
    }
  }
}

void NeuronFile::Read(int64_t layer, int32_t channel, NeuronRows* out) const {
  const Layer& own = layers_[static_cast<size_t>(layer)];
  const int64_t row = own.row_of.empty() ? channel : own.row_of[static_cast<size_t>(channel)];
  CopyRow(own.ffn.gate, row, &out->gate);
  out->up.clear();
  if (own.ffn.up.rows > 0) CopyRow(own.ffn.up, row, &out->up);
  if (own.ffn.layout == DownLayout::kPerNeuron) {
    CopyRow(own.ffn.down, row, &out->down);
  } else {
    ReadColumn(own, row, &out->down);
  }
  for (const auto& [member, values] : own.vectors) {
    const float value = values[static_cast<size_t>(row)];
    if (member == &FfnSlice::gate_bias) out->gate_bias = value;
    if (member == &FfnSlice::up_bias) out->up_bias = value;
  }
}

// As TransposeDown makes a neuron's row.
void NeuronFile::ReadColumn(const Layer& layer, int64_t row, std::vector<std::byte>* out) const {
  const TensorView& down = layer.ffn.down;
  const int64_t first = row / kQuantBlock * kQuantBlock;
  const int64_t last = std::min<int64_t>(first + kQuantBlock, down.cols);
  float columns[kQuantBlock];
  std::vector<float> values(static_cast<size_t>(down.rows));
  for (int64_t r = 0; r < down.rows; ++r) {
    CpuKernels().dequantize_f32(down.dtype, down.row(r), first, last, columns);
    values[static_cast<size_t>(r)] = columns[row - first];
  }
  const DType stored = DownTypeOf(down.dtype, config_.d_model, down_);
  out->resize(static_cast<size_t>(RowBytes(stored, down.rows)));
  QuantizeRow(stored, values.data(), down.rows, out->data());
}

}  // namespace thermocline
