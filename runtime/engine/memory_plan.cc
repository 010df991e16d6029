#include "runtime/engine/memory_plan.h"

#include <algorithm>

#include "runtime/core/error.h"
#include "runtime/device/cpu/cpu_device.h"
#include "runtime/device/cpu/cpu_row_exchange.h"
#include "runtime/device/gpu/make_gpu_device.h"
#include "runtime/model/stored_ffn.h"
#include "runtime/moves/neuron_mover.h"
#include "runtime/pass/pass_context.h"

namespace thermocline {
namespace {

// A matrix as it is stored: the file's, or a down projection with a row per neuron.
struct StoredMatrix {
  DType dtype;
  int64_t rows;
  int64_t cols;
};

uint64_t MatrixBytes(const StoredMatrix& matrix, WeightForm form) {
  if (form == WeightForm::kOnGpu) return GpuMatrixBytes(matrix.dtype, matrix.rows, matrix.cols);
  return static_cast<uint64_t>(matrix.rows) *
         static_cast<uint64_t>(RowBytes(matrix.dtype, matrix.cols));
}

uint64_t TensorBytes(const TensorRow& row, const GgufTensorInfo& info, WeightForm form) {
  const bool matrix = row.use == TensorUse::kMatrix || row.use == TensorUse::kTable;
  if (form == WeightForm::kAsInFile || !matrix) return info.n_bytes;
  // Of rows that lie side by side each is one of its own.
  const int64_t beside = row.role == TensorRole::kUpDown ? 2 : 1;
  return MatrixBytes({info.dtype, static_cast<int64_t>(info.rows()) * beside,
                      static_cast<int64_t>(info.cols()) / beside},
                     form);
}

// What a layer takes, or the model outside its layers.
struct PartBytes {
  uint64_t fixed = 0;      // whole on the fast tier
  uint64_t attention = 0;  // whole where the layer attends
  uint64_t neurons = 0;    // of all neurons

  uint64_t OfNeuron(int64_t n_neurons) const { return neurons / static_cast<uint64_t>(n_neurons); }
};

// Counts tensors as they are stored: as in the file, but for a stock down.
class ByteCounter {
 public:
  ByteCounter(const ModelConfig& config, const DownStorage& down, WeightForm form,
              const ColumnStorage& columns = {})
      : config_(config), down_(down), form_(form), columns_(columns) {}

  void Add(const ModelTensor& tensor, const GgufTensorInfo* info, PartBytes* bytes) {
    CHECK(info != nullptr);  // CheckTensors
    const TensorRow& row = *tensor.row;
    if (tensor.unused) return;
    const uint64_t n_bytes =
        IsByColumn(row.role) ? BytesByColumn(*info) : TensorBytes(row, *info, form_);
    if (row.tier == TensorTier::kFast) {
      (row.goes_with_attention() ? bytes->attention : bytes->fixed) += n_bytes;
    }
    if (row.tier != TensorTier::kNeurons) return;
    const bool transposed =
        row.role == TensorRole::kDown &&
        down_.LayoutOf(config_.layer(tensor.layer).ffn) == DownLayout::kPerNeuron;
    bytes->neurons += transposed ? BytesOfDown(tensor, *info) : n_bytes;
  }
  const std::vector<MemoryPlan::Down>& downs() const { return downs_; }

 private:
  bool IsByColumn(TensorRole role) const {
    switch (role) {
      case TensorRole::kWq:
      case TensorRole::kWk:
      case TensorRole::kWv:
      case TensorRole::kWo:
        return columns_.attention;
      case TensorRole::kGate:
      case TensorRole::kUp:
        return columns_.ffn;
      default:
        return false;
    }
  }
  uint64_t BytesByColumn(const GgufTensorInfo& info) const {
    const auto rows = static_cast<int64_t>(info.rows());
    return MatrixBytes(
        {DownTypeOf(info.dtype, rows, down_), static_cast<int64_t>(info.cols()), rows}, form_);
  }

  uint64_t BytesOfDown(const ModelTensor& tensor, const GgufTensorInfo& info) {
    const StoredMatrix stored = {DownTypeOf(info.dtype, config_.d_model, down_),
                                 config_.d_ff_of(tensor.layer), config_.d_model};
    const uint64_t n_bytes = MatrixBytes(stored, form_);
    if (stored.dtype == info.dtype) return n_bytes;
    const auto same = [&](const MemoryPlan::Down& down) {
      return down.in_file == info.dtype && down.stored == stored.dtype;
    };
    auto kind = std::find_if(downs_.begin(), downs_.end(), same);
    if (kind == downs_.end()) kind = downs_.insert(kind, {info.dtype, stored.dtype});
    ++kind->n_layers;
    kind->file_bytes += info.n_bytes;
    kind->bytes += n_bytes;
    return n_bytes;
  }

  const ModelConfig& config_;
  DownStorage down_;
  WeightForm form_;
  ColumnStorage columns_;
  std::vector<MemoryPlan::Down> downs_;
};

struct ModelBytes {
  PartBytes model;
  std::vector<PartBytes> layers;
  std::vector<MemoryPlan::Down> downs;
};

ModelBytes BytesOf(const PlanInput& input, WeightForm form) {
  const ModelConfig& config = *input.config;
  ModelBytes bytes{{}, std::vector<PartBytes>(static_cast<size_t>(config.n_layers)), {}};
  ByteCounter counter(config, input.down, form, input.columns);
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

size_t AttentionTier(const PlanInput& input, int64_t layer) {
  return input.placement == nullptr ? 0
                                    : input.placement->layers[static_cast<size_t>(layer)].attention;
}

void CountAdapters(const PlanInput& input, MemoryPlan* plan) {
  for (const LoraFile* lora : input.loras) {
    for (int64_t l = 0; l < input.config->n_layers; ++l) {
      plan->tiers[AttentionTier(input, l)].adapter_bytes += lora->AttentionBytes(l);
      for (size_t tier = 0; tier < plan->tiers.size(); ++tier) {
        plan->tiers[tier].adapter_bytes += lora->FfnBytes(l, NeuronsOn(input, l, tier));
      }
    }
  }
}

// What moving neurons takes: counters of those that may, and room for a cluster under way.
void CountMoves(const PlanInput& input, MemoryPlan* plan) {
  const ModelConfig& config = *input.config;
  std::vector<DType> dtypes;
  uint64_t predictor_bytes = 0;
  for (int64_t l = 0; l < config.n_layers; ++l) {
    const FileFfn ffn = ReadFileFfn(*input.gguf, *input.family, config, l);
    dtypes.push_back(ffn.gate.dtype);
    if (ffn.up.rows > 0) dtypes.push_back(ffn.up.dtype);
    dtypes.push_back(ffn.layout == DownLayout::kPerNeuron
                         ? ffn.down.dtype
                         : DownTypeOf(ffn.down.dtype, config.d_model, input.down));
    if (input.predictor != nullptr) {
      predictor_bytes = std::max(predictor_bytes, input.predictor->OutRowBytes(l));
    }
    if (!NeuronMover::MayMove(config.layer(l).ffn) || NeuronsOn(input, l, 0) == 0 ||
        NeuronsOn(input, l, 1) == 0) {
      continue;
    }
    for (size_t tier = 0; tier < 2; ++tier) {
      plan->tiers[tier].scratch_bytes += NeuronMover::CounterBytes(NeuronsOn(input, l, tier));
    }
  }
  const RowExchangeLimits limits =
      NeuronMover::ExchangeLimits(config.d_model, std::move(dtypes), predictor_bytes);
  const uint64_t on_host = CpuRowExchange::Bytes(limits);
  plan->tiers[0].scratch_bytes +=
      input.gpu_scratch_bytes.has_value() ? GpuExchangeBytes(limits) : on_host;
  plan->tiers[1].scratch_bytes += on_host;
}

}  // namespace

uint64_t NeuronBytes(const GgufReader& gguf, const Family& family, const ModelConfig& config,
                     int64_t layer, const DownStorage& down, WeightForm form) {
  PartBytes bytes;
  ByteCounter counter(config, down, form);
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
  const bool on_gpu = input.gpu_scratch_bytes.has_value();
  const ModelBytes bytes = BytesOf(input, WeightForm::kAsInFile);
  const ModelBytes fast = on_gpu ? BytesOf(input, WeightForm::kOnGpu) : bytes;
  plan.downs = bytes.downs;
  plan.embedding_bytes = fast.model.fixed;
  if (on_gpu) {
    // Its head is a copy in its own form; of the tables a token needs one row each.
    const auto table_bytes = [&](TensorRole role) {
      const TensorRow& table = RowOf(input.family->tensors, role);
      return TensorBytes(table, *gguf.FindTensor(table.name), WeightForm::kOnGpu);
    };
    const uint64_t tokens = table_bytes(TensorRole::kTokenEmbd);
    const uint64_t others =
        (config.learned_positions ? table_bytes(TensorRole::kPositionEmbd) : uint64_t{0}) +
        (config.layer_embd_dim > 0 ? table_bytes(TensorRole::kLayerEmbd) : uint64_t{0});
    plan.host_table_bytes = tokens + others;
    plan.embedding_bytes -= config.tied_output ? others : plan.host_table_bytes;
  }
  for (size_t c = 0; c < input.kv_layout.classes.size(); ++c) {
    const KvPageClass& pages = input.kv_layout.classes[c];
    plan.kv.push_back({pages.tier, pages.window, input.kv_layout.n_layers(c),
                       pages.n_pages * kKvPageTokens,
                       HostKvCache::ClassBytes(config, input.cache_type, input.kv_layout, c)});
  }

  std::vector<TierShare> shares(plan.tiers.size());
  std::vector<bool> used(plan.tiers.size());
  for (int64_t l = 0; l < config.n_layers; ++l) {
    const PartBytes& own = fast.layers[static_cast<size_t>(l)];
    const int64_t d_ff = config.d_ff_of(l);
    const uint64_t fast_bytes = own.OfNeuron(d_ff);
    const uint64_t slow_bytes = bytes.layers[static_cast<size_t>(l)].OfNeuron(d_ff);
    MemoryPlan::Layer layer{.attention_tier = AttentionTier(input, l),
                            .attention_bytes = own.fixed,
                            .slices = std::vector<MemoryPlan::Slice>(plan.tiers.size())};
    const bool away = layer.attention_tier > 0;
    if (away) {
      CHECK(layer.attention_tier == 1 && plan.tiers.size() > 1);
      layer.slow_attention_bytes = bytes.layers[static_cast<size_t>(l)].attention;
      shares[1].attends_apart = on_gpu;
      used[1] = true;
    } else {
      layer.attention_bytes += own.attention;
    }
    for (size_t tier = 0; tier < plan.tiers.size(); ++tier) {
      MemoryPlan::Slice& slice = layer.slices[tier];
      slice.n_neurons = NeuronsOn(input, l, tier);
      slice.bytes = (tier == 0 ? fast_bytes : slow_bytes) * static_cast<uint64_t>(slice.n_neurons);
      shares[tier].max_neurons = std::max(shares[tier].max_neurons, slice.n_neurons);
      used[tier] = used[tier] || slice.n_neurons > 0;
      const bool asked = input.predictor != nullptr && (tier > 0 || !plan.placed);
      if (asked) slice.predictor_bytes = input.predictor->Bytes(l, slice.n_neurons);
    }
    plan.layers.push_back(layer);
  }

  CountAdapters(input, &plan);

  const auto buffers = PassContext::BufferBytes(config, input.executor, shares);
  CpuDeviceLimits limits =
      MakeCpuDeviceLimits(config, input.executor.max_tokens, input.context_tokens, input.n_threads,
                          input.predictor == nullptr ? kNoPredictor : input.predictor->max_rank());
  limits.adapter_rank = input.adapter_rank;
  limits.max_sequences = input.n_sequences;
  limits.cuts = input.cuts;
  limits.by_column = input.has_columns;
  limits.activation_bits = input.activation_bits;
  const uint64_t cpu_scratch = limits.ScratchBytes(limits.Kernels());
  plan.tiers[0].scratch_bytes = buffers[0] + input.gpu_scratch_bytes.value_or(cpu_scratch);
  for (size_t tier = 1; tier < plan.tiers.size(); ++tier) {
    if (!used[tier]) continue;
    plan.tiers[tier].scratch_bytes =
        buffers[tier] + cpu_scratch + (tier == 1 ? input.gpu_pinned_bytes : 0);
  }
  if (input.moves_neurons) CountMoves(input, &plan);
  return plan;
}

uint64_t MemoryPlan::attention_bytes(size_t tier) const {
  uint64_t total = 0;
  for (const Layer& layer : layers) {
    if (tier <= 1) total += tier == 0 ? layer.attention_bytes : layer.slow_attention_bytes;
  }
  return total;
}

uint64_t MemoryPlan::kv_bytes() const {
  uint64_t total = 0;
  for (const Kv& part : kv) total += part.bytes;
  return total;
}

uint64_t MemoryPlan::kv_bytes(size_t tier) const {
  uint64_t total = 0;
  for (const Kv& part : kv) total += part.tier == tier ? part.bytes : 0;
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
  const uint64_t own = neuron_bytes(tier) + predictor_bytes(tier) + tiers[tier].adapter_bytes +
                       tiers[tier].scratch_bytes + attention_bytes(tier) + kv_bytes(tier);
  if (tier == 0) return own + embedding_bytes;
  return own + (tier == 1 ? host_table_bytes : 0);
}

}  // namespace thermocline
