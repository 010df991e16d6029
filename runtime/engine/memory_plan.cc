#include "runtime/engine/memory_plan.h"

#include <algorithm>

#include "runtime/core/error.h"
#include "runtime/device/cpu/cpu_device.h"
#include "runtime/load/weights.h"
#include "runtime/model/stored_ffn.h"

namespace thermocline {
namespace {

// What a file holds of a layer: whole on the fast tier, and in all of its neurons.
struct LayerBytes {
  uint64_t fixed = 0;
  uint64_t neurons = 0;
};

LayerBytes BytesOfLayer(const GgufReader& gguf, const Family& family, const ModelConfig& config,
                        int64_t layer) {
  LayerBytes bytes;
  ForEachLayerTensor(gguf, family.tensors, config, layer,
                     [&](const ModelTensor& tensor, const GgufTensorInfo* info) {
                       CHECK(info != nullptr);  // CheckTensors
                       const TensorTier tier = tensor.row->tier;
                       if (tier == TensorTier::kFast) bytes.fixed += info->n_bytes;
                       if (tier == TensorTier::kNeurons) bytes.neurons += info->n_bytes;
                     });
  return bytes;
}

// The embedding table, the last norm and the head.
uint64_t ModelTensorBytes(const GgufReader& gguf, const Family& family, const ModelConfig& config) {
  uint64_t total = 0;
  ForEachTensor(
      gguf, family.tensors, config, [&](const ModelTensor& tensor, const GgufTensorInfo* info) {
        CHECK(info != nullptr);  // CheckTensors
        const bool counts = tensor.layer == kNoLayer && tensor.row->tier == TensorTier::kFast;
        if (counts) total += info->n_bytes;
      });
  return total;
}

}  // namespace

uint64_t NeuronBytes(const GgufReader& gguf, const Family& family, const ModelConfig& config,
                     int64_t layer) {
  return BytesOfLayer(gguf, family, config, layer).neurons /
         static_cast<uint64_t>(config.d_ff_of(layer));
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
  plan.embedding_bytes = ModelTensorBytes(gguf, *input.family, config);
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
    const LayerBytes bytes = BytesOfLayer(gguf, *input.family, config, l);
    const int64_t n_neurons = config.d_ff_of(l);
    const uint64_t neuron_bytes = bytes.neurons / static_cast<uint64_t>(n_neurons);
    layer.attention_bytes = bytes.fixed;
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
