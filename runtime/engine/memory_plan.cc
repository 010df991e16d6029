#include "runtime/engine/memory_plan.h"

#include <algorithm>

#include "runtime/core/error.h"
#include "runtime/device/cpu/cpu_device.h"
#include "runtime/pass/pass_context.h"

namespace thermocline {
namespace {

// What is stored of a layer, or of the model outside its layers.
struct StoredBytes {
  uint64_t fixed = 0;    // whole on the fast tier
  uint64_t neurons = 0;  // of all neurons

  uint64_t OfNeuron(int64_t n_neurons) const { return neurons / static_cast<uint64_t>(n_neurons); }
};

// Counts tensors as they are stored: as in the file, but for a stock down.
class ByteCounter {
 public:
  ByteCounter(const ModelConfig& config, const DownStorage& down) : config_(config), down_(down) {}

  void Add(const ModelTensor& tensor, const GgufTensorInfo* info, StoredBytes* bytes) {
    CHECK(info != nullptr);  // CheckTensors
    if (tensor.row->tier == TensorTier::kFast) bytes->fixed += info->n_bytes;
    if (tensor.row->tier != TensorTier::kNeurons) return;
    bytes->neurons +=
        tensor.row->role == TensorRole::kDown ? BytesOfDown(tensor, *info) : info->n_bytes;
  }
  const std::vector<MemoryPlan::Down>& downs() const { return downs_; }

 private:
  uint64_t BytesOfDown(const ModelTensor& tensor, const GgufTensorInfo& info) {
    const DType stored = DownTypeOf(info.dtype, config_.d_model, down_);
    if (down_.layout == DownLayout::kStock || stored == info.dtype) return info.n_bytes;
    const uint64_t n_bytes = static_cast<uint64_t>(config_.d_ff_of(tensor.layer)) *
                             static_cast<uint64_t>(RowBytes(stored, config_.d_model));
    const auto same = [&](const MemoryPlan::Down& down) {
      return down.in_file == info.dtype && down.stored == stored;
    };
    auto kind = std::find_if(downs_.begin(), downs_.end(), same);
    if (kind == downs_.end()) kind = downs_.insert(kind, {info.dtype, stored});
    ++kind->n_layers;
    kind->file_bytes += info.n_bytes;
    kind->bytes += n_bytes;
    return n_bytes;
  }

  const ModelConfig& config_;
  DownStorage down_;
  std::vector<MemoryPlan::Down> downs_;
};

struct ModelBytes {
  StoredBytes model;
  std::vector<StoredBytes> layers;
  std::vector<MemoryPlan::Down> downs;
};

ModelBytes BytesOf(const PlanInput& input) {
  const ModelConfig& config = *input.config;
  ModelBytes bytes{{}, std::vector<StoredBytes>(static_cast<size_t>(config.n_layers)), {}};
  ByteCounter counter(config, input.down);
  ForEachTensor(*input.gguf, input.family->tensors, config,
                [&](const ModelTensor& tensor, const GgufTensorInfo* info) {
                  const bool in_layer = tensor.layer != kNoLayer;
                  counter.Add(
                      tensor, info,
                      in_layer ? &bytes.layers[static_cast<size_t>(tensor.layer)] : &bytes.model);
                });
  bytes.downs = counter.downs();
  return bytes;
}

int64_t NeuronsOn(const PlanInput& input, int64_t layer, size_t tier) {
  if (input.placement == nullptr) return tier == 0 ? input.config->d_ff_of(layer) : 0;
  return input.placement->layers[static_cast<size_t>(layer)].n_on[tier];
}

}  // namespace

uint64_t NeuronBytes(const GgufReader& gguf, const Family& family, const ModelConfig& config,
                     int64_t layer, const DownStorage& down) {
  StoredBytes bytes;
  ByteCounter counter(config, down);
  ForEachLayerTensor(gguf, family.tensors, config, layer,
                     [&](const ModelTensor& tensor, const GgufTensorInfo* info) {
                       counter.Add(tensor, info, &bytes);
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
  const ModelBytes bytes = BytesOf(input);
  plan.downs = bytes.downs;
  plan.embedding_bytes = bytes.model.fixed;
  if (input.gpu_scratch_bytes) {
    // Its head is a copy in its own form; of the table a token needs one row.
    const TensorRow& table = RowOf(input.family->tensors, TensorRole::kTokenEmbd);
    plan.host_table_bytes = gguf.FindTensor(table.name)->n_bytes;
    if (!config.tied_output) plan.embedding_bytes -= plan.host_table_bytes;
  }
  plan.kv_bytes = HostKvCache::Bytes(config, input.cache_type, input.kv_pages);

  std::vector<int64_t> max_neurons(plan.tiers.size());
  for (int64_t l = 0; l < config.n_layers; ++l) {
    const StoredBytes& own = bytes.layers[static_cast<size_t>(l)];
    const uint64_t neuron_bytes = own.OfNeuron(config.d_ff_of(l));
    MemoryPlan::Layer layer{own.fixed, std::vector<MemoryPlan::Slice>(plan.tiers.size())};
    for (size_t tier = 0; tier < plan.tiers.size(); ++tier) {
      MemoryPlan::Slice& slice = layer.slices[tier];
      slice.n_neurons = NeuronsOn(input, l, tier);
      slice.bytes = neuron_bytes * static_cast<uint64_t>(slice.n_neurons);
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
