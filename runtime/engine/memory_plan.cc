#include "runtime/engine/memory_plan.h"

#include <algorithm>

#include "runtime/core/error.h"
#include "runtime/device/cpu/cpu_device.h"
#include "runtime/load/weights.h"
#include "runtime/model/stored_ffn.h"

namespace thermocline {
namespace {

uint64_t TensorBytes(const GgufReader& gguf, const std::string& name) {
  const GgufTensorInfo* tensor = gguf.FindTensor(name);
  return tensor == nullptr ? 0 : tensor->n_bytes;
}

uint64_t LayerAttentionBytes(const GgufReader& gguf, const TensorNames& names, int64_t layer) {
  uint64_t total = 0;
  for (const std::string_view pattern :
       {names.attn_norm, names.wq, names.wk, names.wv, names.wo, names.wq_bias, names.wk_bias,
        names.wv_bias, names.wo_bias, names.ffn_norm}) {
    total += TensorBytes(gguf, LayerTensorName(pattern, layer));
  }
  return total;
}

}  // namespace

uint64_t NeuronBytes(const GgufReader& gguf, const Family& family, int64_t layer) {
  const TensorNames& names = family.names;
  const uint64_t bytes = TensorBytes(gguf, LayerTensorName(names.w_gate, layer)) +
                         TensorBytes(gguf, LayerTensorName(names.w_up, layer)) +
                         TensorBytes(gguf, FindDown(gguf, names, layer).name) +
                         TensorBytes(gguf, LayerTensorName(kPackedUpDown, layer)) +
                         TensorBytes(gguf, LayerTensorName(names.gate_bias, layer));
  const GgufTensorInfo* gate = gguf.FindTensor(LayerTensorName(names.w_gate, layer));
  CHECK(gate != nullptr);
  return bytes / gate->rows();
}

MemoryPlan PlanMemory(const PlanInput& input) {
  const GgufReader& gguf = *input.gguf;
  const ModelConfig& config = *input.config;
  const TensorNames& names = input.family->names;
  CheckTensors(gguf, *input.family, config);
  MemoryPlan plan;
  plan.two_tiers = input.placement != nullptr;
  plan.fast_name = input.fast_name;
  plan.slow_name = input.slow_name;
  plan.context_tokens = input.context_tokens;
  plan.batch_tokens = input.executor.max_tokens;
  plan.embedding_bytes = TensorBytes(gguf, std::string(names.token_embd)) +
                         TensorBytes(gguf, std::string(names.output)) +
                         TensorBytes(gguf, std::string(names.output_norm));
  if (input.gpu_scratch_bytes) {
    // Its head is a copy in its own form; of the table a token needs one row.
    const uint64_t table = TensorBytes(gguf, std::string(names.token_embd));
    plan.host_table_bytes = table;
    if (!config.tied_output) plan.embedding_bytes -= table;
  }
  plan.kv_bytes = HostKvCache::Bytes(config, input.cache_type, input.kv_pages);

  int64_t max_hot = 0;
  int64_t max_cold = 0;
  for (int64_t l = 0; l < config.n_layers; ++l) {
    MemoryPlan::Layer layer;
    const uint64_t neuron_bytes = NeuronBytes(gguf, *input.family, l);
    layer.attention_bytes = LayerAttentionBytes(gguf, names, l);
    layer.hot_neurons = input.placement == nullptr
                            ? config.d_ff
                            : input.placement->layers[static_cast<size_t>(l)].n_vram;
    layer.cold_neurons = config.d_ff - layer.hot_neurons;
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
