// What a run will need in each tier, computed from the file's table alone: printed by --dry-run
// before anything is loaded, and checked against the budgets.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "runtime/gguf/gguf_reader.h"
#include "runtime/load/down_type.h"
#include "runtime/load/model_predictor.h"
#include "runtime/lora/lora_file.h"
#include "runtime/model/families.h"
#include "runtime/pass/executor.h"
#include "runtime/placement/placement.h"

namespace thermocline {

struct MemoryPlan {
  // A layer's neurons on one tier.
  struct Slice {
    int64_t n_neurons = 0;
    uint64_t bytes = 0;
    uint64_t predictor_bytes = 0;  // of what names them
  };
  struct Layer {
    size_t attention_tier = 0;
    uint64_t attention_bytes = 0;       // on the first tier, with the norms
    uint64_t slow_attention_bytes = 0;  // on the second, where it lies there
    std::vector<Slice> slices;          // by tier
  };
  // Down projections of a stock file that get a row per neuron and another type.
  struct Down {
    DType in_file = DType::kF32;
    DType stored = DType::kF32;
    int64_t n_layers = 0;
    uint64_t file_bytes = 0;
    uint64_t bytes = 0;
  };
  // The KV cache of layers that look back equally far, on one tier.
  struct Kv {
    size_t tier = 0;
    int64_t window = 0;  // 0: they keep all positions
    int64_t n_layers = 0;
    int64_t n_tokens = 0;  // that there is room for, of all sequences together
    uint64_t bytes = 0;
  };
  struct Tier {
    std::string name;
    uint64_t scratch_bytes = 0;  // run state and the device's own scratch
    uint64_t adapter_bytes = 0;  // LoRA
  };
  bool placed = false;      // with a placement; without, the first tier holds all neurons
  std::vector<Tier> tiers;  // from the fastest on
  int64_t context_tokens = 0;
  int64_t batch_tokens = 0;
  uint64_t embedding_bytes = 0;   // embedding table, output head (once if tied), output norm
  uint64_t host_table_bytes = 0;  // of a GPU: tables of embeddings, which the host keeps for it
  std::vector<Layer> layers;
  std::vector<Down> downs;  // those that are transposed, by their types
  std::vector<Kv> kv;       // by tier; all positions first, then by their windows

  uint64_t attention_bytes(size_t tier = 0) const;
  uint64_t kv_bytes() const;  // of all tiers
  uint64_t kv_bytes(size_t tier) const;
  uint64_t neuron_bytes(size_t tier) const;
  uint64_t predictor_bytes(size_t tier) const;
  uint64_t total_bytes(size_t tier) const;  // all the tier holds
  // What the first tier holds before its first neuron: the least budget that works.
  uint64_t fast_fixed_bytes() const { return total_bytes(0) - neuron_bytes(0); }
};

struct PlanInput {
  const GgufReader* gguf = nullptr;
  const Family* family = nullptr;
  const ModelConfig* config = nullptr;
  const Placement* placement = nullptr;  // null: one tier
  DownStorage down;
  ColumnStorage columns;
  bool cuts = false;                          // channels may be left out
  bool has_columns = false;                   // in the file or by `columns`
  const ModelPredictor* predictor = nullptr;  // null: none
  std::vector<const LoraFile*> loras;
  int64_t adapter_rank = 0;  // of all of them together
  ExecutorOptions executor;
  int64_t context_tokens = 0;
  int64_t n_sequences = 1;  // at a time
  KvLayout kv_layout;
  DType cache_type = DType::kF16;
  int activation_bits = 8;
  int n_threads = 1;
  std::optional<uint64_t> gpu_scratch_bytes;  // of the fast tier, where it is a GPU
  uint64_t gpu_pinned_bytes = 0;              // of the host, for it
  bool moves_neurons = false;                 // between the first two tiers (runtime/moves)
  // Names of the tiers that run, from the fastest on; the second is memory of the host.
  std::vector<std::string> tier_names;
};

// REQUIRES: CheckTensors takes the file.
MemoryPlan PlanMemory(const PlanInput& input);

enum class WeightForm : uint8_t { kAsInFile, kOnGpu };

// Bytes of one neuron in a layer: of all tensors that have a part per neuron, as they are stored.
uint64_t NeuronBytes(const GgufReader& gguf, const Family& family, const ModelConfig& config,
                     int64_t layer, const DownStorage& down, WeightForm form);

}  // namespace thermocline
