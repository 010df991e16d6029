#include "runtime/stand_ins/draft_weights.h"

#include <functional>

#include "runtime/core/error.h"
#include "runtime/model/tensor_table.h"

namespace thermocline {

FfnSlice FirstNeurons(const FfnSlice& slice, int64_t n) {
  CHECK(n >= 0 && n <= slice.n_neurons);
  if (n == slice.n_neurons) return slice;
  if (n == 0) return {};
  // What lies otherwise has no neuron's weights apart.
  CHECK(slice.down_layout == DownLayout::kPerNeuron && !slice.by_column);
  FfnSlice first = slice;
  first.n_neurons = n;
  first.gate = slice.gate.SliceRows(0, n);
  if (slice.is_gated()) first.up = slice.up.SliceRows(0, n);
  first.down = slice.down.SliceRows(0, n);
  return first;
}

// Where what a draft has of its own goes.
struct DraftWeights::Placing {
  std::function<TensorView(const TensorView& matrix)> matrix;
  std::function<const float*(const std::vector<float>& values)> vector;
};

DraftWeights::DraftWeights(Engine& engine) : engine_(engine) { Clear(); }

void DraftWeights::Clear() {
  weights_ = engine_.weights();
  for (LayerWeights& layer : weights_.layers) {
    layer.slices.assign(1, FfnSlice{});
    layer.stand_in = {};
  }
}

void DraftWeights::Put(int64_t l, const DraftLayer& layer, const Placing& placing) {
  LayerWeights& out = weights_.layers[static_cast<size_t>(l)];
  const FfnSlice& fast = engine_.weights().layers[static_cast<size_t>(l)].slices.front();
  out.slices.front() = FirstNeurons(fast, layer.n_hot);
  out.stand_in = {};
  const auto vector = [&](const std::vector<float>& values) {
    return values.empty() ? nullptr : placing.vector(values);
  };
  for (const DraftSlice& slice : layer.slices) {
    if (slice.n_neurons == 0) continue;
    FfnSlice& stand_in = out.stand_in.slices.emplace_back();
    stand_in.n_neurons = slice.n_neurons;
    stand_in.gate = placing.matrix(slice.gate.view);
    if (!slice.up.view.empty()) stand_in.up = placing.matrix(slice.up.view);
    stand_in.down = placing.matrix(slice.down.view);
    stand_in.gate_bias = vector(slice.gate_bias);
    stand_in.up_bias = vector(slice.up_bias);
  }
  if (!layer.left.view.empty()) {
    out.stand_in.left.w = placing.matrix(layer.left.view);
    out.stand_in.right.w = placing.matrix(layer.right.view);
  }
  out.stand_in.bias = vector(layer.bias);
}

// A tied head is the table's replacement; tokens are embedded by the model's own table.
void DraftWeights::Replace(const DraftReplacement& other, const Placing& placing) {
  const TensorTable table = engine_.model().family().tensors;
  const ModelConfig& config = engine_.config();
  const TensorRole head = config.tied_output ? TensorRole::kTokenEmbd : TensorRole::kOutput;
  if (other.name == TensorOf(table, head, config).name) {
    weights_.output.w = placing.matrix(other.matrix.view);
    return;
  }
  for (int64_t l = 0; l < config.n_layers; ++l) {
    ForEachLayerTensor(engine_.model().gguf(), table, config, l,
                       [&](const ModelTensor& tensor, const GgufTensorInfo* /*info*/) {
                         if (tensor.row->matrix == nullptr || tensor.name != other.name) return;
                         LinearWeights& w =
                             weights_.layers[static_cast<size_t>(l)].*tensor.row->matrix;
                         w.w = placing.matrix(other.matrix.view);
                         w.by_column = false;
                       });
  }
}

void DraftWeights::Store(const DraftFile& file) {
  Device& device = engine_.fast_tier();
  const Placing placing = {
      .matrix = [&](const TensorView& w) { return device.StoreRows(w, {}, "stand-ins"); },
      .vector =
          [&](const std::vector<float>& values) {
            const uint64_t n_bytes = values.size() * sizeof(float);
            void* const memory = device.Allocate(n_bytes, "stand-ins");
            device.Upload(memory, values.data(), n_bytes);
            return static_cast<const float*>(memory);
          }};
  for (size_t l = 0; l < file.layers.size(); ++l) {
    Put(static_cast<int64_t>(l), file.layers[l], placing);
  }
  for (const DraftReplacement& other : file.replacements) Replace(other, placing);
}

void DraftWeights::Use(int64_t l, const DraftLayer& layer) {
  CHECK(engine_.fast_tier().queued() == nullptr);
  Put(l, layer,
      {.matrix = [](const TensorView& w) { return w; },
       .vector = [](const std::vector<float>& values) { return values.data(); }});
}

void DraftWeights::UseReplacements(const DraftFile& file) {
  for (const DraftReplacement& other : file.replacements) {
    Replace(other, {.matrix = [](const TensorView& w) { return w; },
                    .vector = [](const std::vector<float>& values) { return values.data(); }});
  }
}

}  // namespace thermocline
