// The whole runtime behind one door: opens a model (and a placement), sets up the tiers, feeds
// tokens of one sequence or of several and hands out logits.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "runtime/core/progress.h"
#include "runtime/device/gpu/make_gpu_device.h"
#include "runtime/device/weight_stream.h"
#include "runtime/engine/memory_plan.h"
#include "runtime/load/model_predictor.h"
#include "runtime/load/weights.h"
#include "runtime/model/families.h"
#include "runtime/pass/executor.h"
#include "runtime/placement/placement.h"
#include "runtime/text/tokenizer.h"
#include "runtime/threads/processors.h"

namespace thermocline {

enum class FastTier : uint8_t {
  kAuto,  // a GPU where there is a real one; else a second CPU device stands in for it
  kCpu,
  kGpu,  // an error where there is none
};

class OpenedModel;

struct EngineOptions {
  std::string model_path;
  std::string placement_path;   // empty: everything in one tier
  std::string sparse = "auto";  // auto with a predictor is predicted
  std::string predictor;        // a file, or kSignPredictor; empty: the model's own, if any
  double predictor_recall = kDefaultPredictorRecall;
  FastTier fast_tier = FastTier::kAuto;
  // Without a placement, of how many layers the neurons lie on the GPU, from the first on; nullopt:
  // of as many as its memory holds. Attention and KV cache of all layers always lie there.
  std::optional<int64_t> gpu_layers = {};
  // Where not all fit: split them, or leave the GPU out (what watches neurons wants layers whole).
  bool may_split_layers = true;
  int n_threads = 0;  // 0: one per physical core
  Pinning pinning = Pinning::kAuto;
  int64_t context_tokens = 0;      // 0: the model's own, at most kDefaultContext
  int64_t n_sequences = 1;         // at most at a time, each with a context of its own
  int64_t batch_tokens = 512;      // of a pass
  DType cache_type = DType::kF16;  // of keys and values: kF16 or kQ8_0
  bool all_logits = false;         // EvaluateAll will be called
  // Store down per neuron also where nothing could be skipped (where something could, it always is,
  // so that dense and sparse read the same weights).
  bool always_per_neuron = false;
  // Weights that need no rearranging are read from the mapped file; copied, they lie in huge pages,
  // which decodes faster, loads slower and takes memory beside the page cache.
  bool copy_weights = false;
  // Of batches, where the fast tier is a GPU: are the weights of cold neurons streamed to it?
  StreamCold gpu_stream = StreamCold::kAuto;
  uint64_t stream_piece_bytes = kStreamPieceBytes;
  ProgressFn progress;
  // Called when the model is open, before its weights are read: what it throws spares the reading.
  std::function<void(const OpenedModel&, const Tokenizer&)> before_load;
};

inline constexpr int64_t kDefaultContext = 4096;

// Opened and checked, nothing loaded: enough for --dry-run and `place`.
class OpenedModel {
 public:
  explicit OpenedModel(const EngineOptions& options);

  const EngineOptions& options() const { return options_; }
  const GgufReader& gguf() const { return gguf_; }
  const Family& family() const { return family_; }
  const ModelConfig& config() const { return config_; }
  const Placement* placement() const { return placement_ ? &*placement_ : nullptr; }
  const ModelPredictor* predictor() const { return predictor_ ? &*predictor_ : nullptr; }
  SparseMode mode() const { return mode_; }
  int64_t context_tokens() const { return context_tokens_; }
  // Of the KV cache: a context for each sequence.
  int64_t kv_pages() const { return options_.n_sequences * KvPagesFor(context_tokens_); }
  int n_threads() const { return n_threads_; }
  ExecutorOptions executor_options() const;
  DownLayout down_layout() const;
  // The GPU's name, or empty where the fast tier is a CPU device.
  const std::string& gpu() const { return gpu_; }
  // For the user, where the GPU holds less than it was hoped to: how much, and what to do. Or an
  // empty text.
  const Note& gpu_note() const { return gpu_note_; }
  bool has_cold() const;  // a placement that leaves neurons on the slow tier
  FastTierNeeds fast_tier_needs() const { return NeedsOf(placement()); }
  MemoryPlan Plan() const { return PlanOf(placement()); }
  // What it would be with another placement, of which the orders need not be there; null: none.
  MemoryPlan PlanOf(const Placement* placement) const;
  std::vector<std::string> TierNames() const;  // of those that a placement may use

 private:
  FastTierNeeds NeedsOf(const Placement* placement) const;
  bool DownFitsPerNeuron() const;
  // ---- layer_split.cc ----
  void SplitLayers();
  int64_t LayersThatFit(uint64_t n_bytes) const;

  EngineOptions options_;
  GgufReader gguf_;
  const Family& family_;
  ModelConfig config_;
  std::string gpu_;
  Note gpu_note_;
  std::optional<Placement> placement_;
  SparseMode mode_;
  std::optional<ModelPredictor> predictor_;
  int64_t context_tokens_;
  int n_threads_;
};

// Tokens to be fed to a sequence.
struct SequenceInput {
  int32_t sequence = 0;
  std::span<const int32_t> ids;
};

// Called with the number of tokens fed so far.
using FeedProgress = std::function<void(size_t)>;

class Engine {
 public:
  explicit Engine(const EngineOptions& options);
  ~Engine();

  const OpenedModel& model() const { return model_; }
  const ModelConfig& config() const { return model_.config(); }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  const ModelWeights& weights() const { return loaded_->weights; }
  // Of each layer, in mode predicted.
  std::span<const LayerPredictors> predictors() const { return loaded_predictor_.layers; }
  const RequantReport& requant() const { return loaded_->requant; }
  Executor& executor() { return *executor_; }
  int64_t n_past() const { return kv_.length(main_); }  // tokens of the main sequence
  int64_t context_tokens() const { return model_.context_tokens(); }
  uint64_t allocated_bytes() const;

  // ---- the main sequence, which is always there ----

  // Starts it anew.
  void Reset() { Truncate(0); }
  // Forgets all but its first n tokens. REQUIRES: n_tokens <= n_past().
  void Truncate(int64_t n_tokens) { kv_.Truncate(main_, n_tokens); }
  // Feeds tokens in batches, and tells `progress` before and after each; returns the logits after
  // the last token, the only ones that are computed: (vocab_size). Valid until the next call.
  // Throws Error when the context is full, Interrupted between batches on Ctrl-C.
  std::span<const float> Feed(std::span<const int32_t> ids, const FeedProgress& progress = {});
  // The same, but only the k best logits come from the device that has them, best first (of equal
  // ones the lower id); fewer where fewer are finite. REQUIRES: 1 <= k <= max_best(), which is 0
  // where they lie in host memory anyway.
  std::span<const TokenLogit> FeedBest(std::span<const int32_t> ids, int64_t k,
                                       const FeedProgress& progress = {});
  int64_t max_best() const { return executor_->max_best(); }
  // Feeds at most batch_tokens tokens and returns the logits after each: (n, vocab_size).
  std::span<const float> EvaluateAll(std::span<const int32_t> ids);

  // ---- several sequences ----

  // Who holds which pages. New sequences are made, forked, cut and removed there; the main one must
  // stay.
  KvSequences& sequences() { return kv_; }
  int32_t main_sequence() const { return main_; }
  // Feeds all inputs in one pass, at the ends of their sequences; returns the logits after the last
  // token of each: (inputs, vocab_size). Valid until the next call. Throws Error when a context or
  // the cache is full.
  // REQUIRES: no sequence twice, no input empty, at most batch_tokens tokens in all.
  std::span<const float> FeedSequences(std::span<const SequenceInput> inputs);

 private:
  void CheckRoom(int32_t sequence, size_t n_ids) const;
  // A pass that appends the inputs; its pages are reserved and what must be copied is.
  Batch MakeBatch(std::span<const SequenceInput> inputs, LogitsWanted wanted);
  // Feeds all but the last batch, and returns that.
  std::span<const int32_t> FeedBatches(std::span<const int32_t> ids, const FeedProgress& progress);

  OpenedModel model_;
  std::unique_ptr<Tokenizer> tokenizer_;
  ThreadTeam team_;
  std::vector<std::unique_ptr<Device>> tiers_;  // from the fastest on
  std::unique_ptr<LoadedWeights> loaded_;
  LoadedPredictor loaded_predictor_;
  std::unique_ptr<KvCache> cache_;
  std::unique_ptr<Executor> executor_;
  KvSequences kv_;
  int32_t main_;
};

}  // namespace thermocline
