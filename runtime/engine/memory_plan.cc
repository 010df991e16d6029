#include "runtime/engine/memory_plan.h"

#include <algorithm>

#include "runtime/core/error.h"
#include "runtime/device/cpu/cpu_device.h"
#include "runtime/device/gpu/make_gpu_device.h"
#include "runtime/pass/pass_context.h"

namespace thermocline {
namespace {

uint64_t TensorBytes(const TensorRow& row, const GgufTensorInfo& info, WeightForm form) {
  const bool matrix = row.use == TensorUse::kMatrix || row.use == TensorUse::kTable;
  if (form == WeightForm::kAsInFile || !matrix) return info.n_bytes;
  // Of rows that lie side by side each is one of its own.
  const int64_t beside = row.role == TensorRole::kUpDown ? 2 : 1;
  return GpuMatrixBytes(info.dtype, static_cast<int64_t>(info.rows()) * beside,
                        static_cast<int64_t>(info.cols()) / beside);
}

// What a layer takes, or the model outside its layers.
struct PartBytes {
  uint64_t fixed = 0;    // whole on the fast tier
  uint64_t neurons = 0;  // of all neurons

  void Add(const ModelTensor& tensor, const GgufTensorInfo* info, WeightForm form) {
    CHECK(info != nullptr);  // CheckTensors
    const uint64_t n_bytes = TensorBytes(*tensor.row, *info, form);
    if (tensor.row->tier == TensorTier::kFast) fixed += n_bytes;
    if (tensor.row->tier == TensorTier::kNeurons) neurons += n_bytes;
  }
  uint64_t OfNeuron(int64_t n_neurons) const { return neurons / static_cast<uint64_t>(n_neurons); }
};

struct ModelBytes {
  PartBytes model;
  std::vector<PartBytes> layers;
};

ModelBytes BytesOf(const GgufReader& gguf, const Family& family, const ModelConfig& config,
                   WeightForm form) {
  ModelBytes bytes{{}, std::vector<PartBytes>(static_cast<size_t>(config.n_layers))};
  ForEachTensor(
      gguf, family.tensors, config, [&](const ModelTensor& tensor, const GgufTensorInfo* info) {
        const bool in_layer = tensor.layer != kNoLayer;
        PartBytes& own = in_layer ? bytes.layers[static_cast<size_t>(tensor.layer)] : bytes.model;
        own.Add(tensor, info, form);
      });
  return bytes;
}

int64_t NeuronsOn(const PlanInput& input, int64_t layer, size_t tier) {
  if (input.placement == nullptr) return tier == 0 ? input.config->d_ff_of(layer) : 0;
  return input.placement->layers[static_cast<size_t>(layer)].n_on[tier];
}

}  // namespace

uint64_t NeuronBytes(const GgufReader& gguf, const Family& family, const ModelConfig& config,
                     int64_t layer, WeightForm form) {
  PartBytes bytes;
  ForEachLayerTensor(gguf, family.tensors, config, layer,
                     [&](const ModelTensor& tensor, const GgufTensorInfo* info) {
                       bytes.Add(tensor, info, form);
                     });
  return bytes.OfNeuron(config.d_ff_of(layer));
}

MemoryPlan PlanMemory(const PlanInput& input) {
  const GgufReader& gguf = *input.gguf;
  const ModelConfig& config = *input.config;
  MemoryPlan plan;
  plan.placed = input.placement != nullptr;
  for (const std::string& name : input.tier_names) plan.tiers.push_back({name});
  plan.context_tokens = input.context_tokens;
  plan.batch_tokens = input.executor.max_tokens;
  const bool on_gpu = input.gpu_scratch_bytes.has_value();
  const ModelBytes bytes = BytesOf(gguf, *input.family, config, WeightForm::kAsInFile);
  const ModelBytes fast = on_gpu ? BytesOf(gguf, *input.family, config, WeightForm::kOnGpu) : bytes;
  plan.embedding_bytes = fast.model.fixed;
  if (on_gpu) {
    // Its head is a copy in its own form; of the table a token needs one row.
    const TensorRow& table = RowOf(input.family->tensors, TensorRole::kTokenEmbd);
    plan.host_table_bytes = TensorBytes(table, *gguf.FindTensor(table.name), WeightForm::kOnGpu);
    if (!config.tied_output) plan.embedding_bytes -= plan.host_table_bytes;
  }
  plan.kv_bytes = HostKvCache::Bytes(config, input.cache_type, input.kv_pages);

  std::vector<int64_t> max_neurons(plan.tiers.size());
  for (int64_t l = 0; l < config.n_layers; ++l) {
    const PartBytes& own = fast.layers[static_cast<size_t>(l)];
    const int64_t d_ff = config.d_ff_of(l);
    const uint64_t fast_bytes = own.OfNeuron(d_ff);
    const uint64_t slow_bytes = bytes.layers[static_cast<size_t>(l)].OfNeuron(d_ff);
    MemoryPlan::Layer layer{own.fixed, std::vector<MemoryPlan::Slice>(plan.tiers.size())};
    for (size_t tier = 0; tier < plan.tiers.size(); ++tier) {
      MemoryPlan::Slice& slice = layer.slices[tier];
      slice.n_neurons = NeuronsOn(input, l, tier);
      slice.bytes = (tier == 0 ? fast_bytes : slow_bytes) * static_cast<uint64_t>(slice.n_neurons);
      max_neurons[tier] = std::max(max_neurons[tier], slice.n_neurons);
      const bool asked = input.predictor != nullptr && (tier > 0 || !plan.placed);
      if (asked) slice.predictor_bytes = input.predictor->Bytes(l, slice.n_neurons);
    }
    plan.layers.push_back(layer);
  }

  const auto buffers = PassContext::BufferBytes(config, input.executor, max_neurons);
  const CpuDeviceLimits limits =
      MakeCpuDeviceLimits(config, input.executor.max_tokens, input.context_tokens, input.n_threads,
                          input.predictor == nullptr ? kNoPredictor : input.predictor->max_rank());
  const uint64_t cpu_scratch = limits.ScratchBytes(CpuKernels());
  plan.tiers[0].scratch_bytes = buffers[0] + input.gpu_scratch_bytes.value_or(cpu_scratch);
  for (size_t tier = 1; tier < plan.tiers.size(); ++tier) {
    if (max_neurons[tier] == 0) continue;
    plan.tiers[tier].scratch_bytes =
        buffers[tier] + cpu_scratch + (tier == 1 ? input.gpu_pinned_bytes : 0);
  }
  return plan;
}

uint64_t MemoryPlan::attention_bytes() const {
  uint64_t total = 0;
  for (const Layer& layer : layers) total += layer.attention_bytes;
  return total;
}

uint64_t MemoryPlan::neuron_bytes(size_t tier) const {
  uint64_t total = 0;
  for (const Layer& layer : layers) total += layer.slices[tier].bytes;
  return total;
}

uint64_t MemoryPlan::predictor_bytes(size_t tier) const {
  uint64_t total = 0;
  for (const Layer& layer : layers) total += layer.slices[tier].predictor_bytes;
  return total;
}

uint64_t MemoryPlan::total_bytes(size_t tier) const {
  const uint64_t own = neuron_bytes(tier) + predictor_bytes(tier) + tiers[tier].scratch_bytes;
  if (tier == 0) return own + embedding_bytes + attention_bytes() + kv_bytes;
  return own + (tier == 1 ? host_table_bytes : 0);
}

}  // namespace thermocline
