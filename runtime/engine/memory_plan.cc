#include "runtime/engine/memory_plan.h"

#include <algorithm>

#include "runtime/core/error.h"
#include "runtime/device/cpu/cpu_device.h"

namespace thermocline {
namespace {

// What a file holds of a layer, or of the model outside its layers.
struct FileBytes {
  uint64_t fixed = 0;    // whole on the fast tier
  uint64_t neurons = 0;  // of all neurons

  void Add(const ModelTensor& tensor, const GgufTensorInfo* info) {
    CHECK(info != nullptr);  // CheckTensors
    if (tensor.row->tier == TensorTier::kFast) fixed += info->n_bytes;
    if (tensor.row->tier == TensorTier::kNeurons) neurons += info->n_bytes;
  }
  uint64_t OfNeuron(int64_t n_neurons) const { return neurons / static_cast<uint64_t>(n_neurons); }
};

struct ModelBytes {
  FileBytes model;
  std::vector<FileBytes> layers;
};

ModelBytes BytesOf(const GgufReader& gguf, const Family& family, const ModelConfig& config) {
  ModelBytes bytes{{}, std::vector<FileBytes>(static_cast<size_t>(config.n_layers))};
  ForEachTensor(
      gguf, family.tensors, config, [&](const ModelTensor& tensor, const GgufTensorInfo* info) {
        const bool in_layer = tensor.layer != kNoLayer;
        FileBytes& own = in_layer ? bytes.layers[static_cast<size_t>(tensor.layer)] : bytes.model;
        own.Add(tensor, info);
      });
  return bytes;
}

}  // namespace

uint64_t NeuronBytes(const GgufReader& gguf, const Family& family, const ModelConfig& config,
                     int64_t layer) {
  FileBytes bytes;
  ForEachLayerTensor(
      gguf, family.tensors, config, layer,
      [&](const ModelTensor& tensor, const GgufTensorInfo* info) { bytes.Add(tensor, info); });
  return bytes.OfNeuron(config.d_ff_of(layer));
}

MemoryPlan PlanMemory(const PlanInput& input) {
  const GgufReader& gguf = *input.gguf;
  const ModelConfig& config = *input.config;
  MemoryPlan plan;
  plan.two_tiers = input.placement != nullptr;
  plan.fast_name = input.fast_name;
  plan.slow_name = input.slow_name;
  plan.context_tokens = input.context_tokens;
  plan.batch_tokens = input.executor.max_tokens;
  const ModelBytes bytes = BytesOf(gguf, *input.family, config);
  plan.embedding_bytes = bytes.model.fixed;
  if (input.gpu_scratch_bytes) {
    // Its head is a copy in its own form; of the table a token needs one row.
    const TensorRow& table = RowOf(input.family->tensors, TensorRole::kTokenEmbd);
    plan.host_table_bytes = gguf.FindTensor(table.name)->n_bytes;
    if (!config.tied_output) plan.embedding_bytes -= plan.host_table_bytes;
  }
  plan.kv_bytes = HostKvCache::Bytes(config, input.cache_type, input.kv_pages);

  int64_t max_hot = 0;
  int64_t max_cold = 0;
  for (int64_t l = 0; l < config.n_layers; ++l) {
    MemoryPlan::Layer layer;
    const FileBytes& own = bytes.layers[static_cast<size_t>(l)];
    const int64_t n_neurons = config.d_ff_of(l);
    const uint64_t neuron_bytes = own.OfNeuron(n_neurons);
    layer.attention_bytes = own.fixed;
    layer.hot_neurons = input.placement == nullptr
                            ? n_neurons
                            : input.placement->layers[static_cast<size_t>(l)].n_vram;
    layer.cold_neurons = n_neurons - layer.hot_neurons;
    layer.hot_bytes = neuron_bytes * static_cast<uint64_t>(layer.hot_neurons);
    layer.cold_bytes = neuron_bytes * static_cast<uint64_t>(layer.cold_neurons);
    if (input.predictor != nullptr) {
      const int64_t asked = plan.two_tiers ? layer.cold_neurons : layer.hot_neurons;
      layer.predictor_bytes = input.predictor->Bytes(l, asked);
    }
    max_hot = std::max(max_hot, layer.hot_neurons);
    max_cold = std::max(max_cold, layer.cold_neurons);
    plan.layers.push_back(layer);
  }

  const StateSize state = Executor::StateBytes(config, input.executor, max_hot, max_cold);
  const CpuDeviceLimits limits =
      MakeCpuDeviceLimits(config, input.executor.max_tokens, input.context_tokens, input.n_threads,
                          input.predictor == nullptr ? kNoPredictor : input.predictor->max_rank());
  plan.fast_scratch_bytes =
      state.fast_bytes + input.gpu_scratch_bytes.value_or(limits.ScratchBytes(CpuKernels()));
  if (max_cold > 0) {
    plan.slow_scratch_bytes =
        state.slow_bytes + limits.ScratchBytes(CpuKernels()) + input.gpu_pinned_bytes;
  }
  return plan;
}

namespace {

uint64_t SumOver(const std::vector<MemoryPlan::Layer>& layers, uint64_t MemoryPlan::Layer::*bytes) {
  uint64_t total = 0;
  for (const MemoryPlan::Layer& layer : layers) total += layer.*bytes;
  return total;
}

}  // namespace

uint64_t MemoryPlan::attention_bytes() const { return SumOver(layers, &Layer::attention_bytes); }
uint64_t MemoryPlan::hot_bytes() const { return SumOver(layers, &Layer::hot_bytes); }
uint64_t MemoryPlan::cold_bytes() const { return SumOver(layers, &Layer::cold_bytes); }
uint64_t MemoryPlan::predictor_bytes() const { return SumOver(layers, &Layer::predictor_bytes); }

uint64_t MemoryPlan::fast_total_bytes() const {
  return embedding_bytes + attention_bytes() + hot_bytes() + fast_predictor_bytes() + kv_bytes +
         fast_scratch_bytes;
}

uint64_t MemoryPlan::slow_total_bytes() const {
  return cold_bytes() + slow_predictor_bytes() + slow_scratch_bytes + host_table_bytes;
}

}  // namespace thermocline
