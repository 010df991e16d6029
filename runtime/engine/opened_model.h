// A model, and what goes with it, before anything is loaded.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/device/gpu/make_gpu_device.h"
#include "runtime/engine/adapt_choice.h"
#include "runtime/engine/engine_options.h"
#include "runtime/engine/memory_plan.h"
#include "runtime/load/model_predictor.h"
#include "runtime/load/weights.h"
#include "runtime/lora/lora_file.h"
#include "runtime/model/families.h"
#include "runtime/pass/pass_context.h"
#include "runtime/placement/placement.h"
#include "runtime/placement/threshold_file.h"
#include "runtime/text/tokenizer.h"

namespace thermocline {

// What is left free of a GPU's memory where a run takes all there is: cuBLAS loads code when it is
// first called, and others use the card as well.
inline constexpr uint64_t kGpuReserveBytes = uint64_t{384} << 20;

// Opened and checked, nothing loaded: enough for --dry-run and `place`.
class OpenedModel {
 public:
  explicit OpenedModel(const EngineOptions& options);

  const EngineOptions& options() const { return options_; }
  const GgufReader& gguf() const { return gguf_; }
  const Family& family() const { return family_; }
  const ModelConfig& config() const { return config_; }
  const Placement* placement() const { return placement_ ? &*placement_ : nullptr; }
  // What is to be drafted with; null: nothing.
  const DraftFile* draft() const { return draft_.get(); }
  const ModelPredictor* predictor() const { return predictor_ ? &*predictor_ : nullptr; }
  const std::vector<std::unique_ptr<const LoraFile>>& loras() const { return loras_; }
  int64_t adapter_rank() const;  // of all adapters together
  // Made when it is first asked for. Throws Error where it does not go with the embedding table.
  const Tokenizer& tokenizer();
  SparseMode mode() const { return mode_; }
  // Of mode kThreshold.
  const std::optional<ThresholdChoice>& threshold_choice() const { return choice_; }
  // Gives away what was read for it. REQUIRES: mode kThreshold, once.
  ModelThresholds TakeThresholds() { return std::move(*thresholds_); }
  // Whether passes may leave out channels.
  bool cuts_channels() const { return choice_.has_value() || options_.sets_cuts; }
  // Whether matrices lie by column, in the file or as they are loaded.
  bool has_columns() const { return config_.by_column || column_storage().attention; }
  // How other matrices of a stock file are stored.
  ColumnStorage column_storage() const;
  int64_t context_tokens() const { return context_tokens_; }
  // The KV cache: a context for each sequence, or what the layers' windows leave of it, and with an
  // encoder one for its text.
  KvLayout kv_layout() const { return KvLayoutFor(placement()); }
  KvLayout KvLayoutFor(const Placement* placement) const;
  // Most tokens that a pass feeds; an encoder reads a whole text in one, whatever this is.
  int64_t batch_tokens() const;
  // Tokens of a pass from whose logits texts are written (ContextOptions::drafted_rows).
  int64_t max_sampled_rows() const;
  int n_threads() const { return n_threads_; }
  ExecutorOptions executor_options() const;
  // How a stock file's down projections are stored.
  DownStorage down_storage() const { return DownStorageFor(placement()); }
  // The GPU's name, or empty where the fast tier is a CPU device.
  const std::string& gpu() const { return gpu_; }
  // For the user, where the GPU holds less than it was hoped to: how much, and what to do. Or an
  // empty text.
  const Note& gpu_note() const { return gpu_note_; }
  // Whether neurons move between the tiers while it runs, and why not where they were asked to.
  const AdaptChoice& adapt() const { return adapt_; }
  // Whether plans of placements have room for neurons that move.
  bool plans_moves() const { return options_.plan_moves && MayMoveOncePlaced(*this); }
  bool has_cold() const;        // a placement that leaves neurons on the slow tier
  bool uses_slow_tier() const;  // or attention
  FastTierNeeds fast_tier_needs() const { return NeedsOf(placement()); }
  MemoryPlan Plan() const { return PlanOf(placement()); }
  // What it would be with another placement, of which the orders need not be there; null: none.
  MemoryPlan PlanOf(const Placement* placement) const;
  std::vector<std::string> TierNames() const;  // of those that a placement may use

 private:
  FastTierNeeds NeedsOf(const Placement* placement) const;
  DownStorage DownStorageFor(const Placement* placement) const;
  bool StoresFfnByColumn() const { return config_.by_column || column_storage().ffn; }
  // ---- layer_split.cc ----
  void SplitLayers();
  // Of how many layers, from the first on, what lies on the fast tier.
  struct FastLayers {
    int64_t neurons = 0;
    int64_t attention = 0;
  };
  FastLayers LayersThatFit(uint64_t n_bytes) const;

  EngineOptions options_;
  GgufReader gguf_;
  const Family& family_;
  ModelConfig config_;
  std::string gpu_;
  Note gpu_note_;
  std::shared_ptr<const DraftFile> draft_;  // null: none
  std::optional<Placement> placement_;
  std::optional<ThresholdChoice> choice_;
  SparseMode mode_;
  std::optional<ModelThresholds> thresholds_;
  std::optional<ModelPredictor> predictor_;
  std::vector<std::unique_ptr<const LoraFile>> loras_;
  int64_t context_tokens_;
  int n_threads_;
  AdaptChoice adapt_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

}  // namespace thermocline
