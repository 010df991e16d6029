// Runs a model: one pass feeds a batch of rows, of one sequence or of several, through all layers.
// Written once, over devices; a layer reads top to bottom in executor.cc.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "predictor/sparse_mode.h"
#include "runtime/device/device.h"
#include "runtime/device/handover.h"
#include "runtime/device/weight_stream.h"
#include "runtime/model/model.h"
#include "runtime/model/rope.h"
#include "runtime/threads/team.h"
#include "runtime/timing/pass_profile.h"

namespace thermocline {

// What one tier computed of one layer's FFN, for whoever watches (the profiler).
struct FfnObservation {
  int64_t layer = 0;
  int64_t n_tokens = 0;
  const FfnSlice* slice = nullptr;  // which neurons
  const float* h = nullptr;         // (n_tokens, slice->n_neurons)
  const float* x = nullptr;         // (n_tokens, d_model) what the FFN read: normalised
};

class FfnObserver {
 public:
  virtual ~FfnObserver() = default;
  // Collective, after the FFN of a layer: every lane calls it and may do a part; it must not return
  // before h was read by all (a Sync at the end does).
  virtual void OnFfn(const Lane& lane, const FfnObservation& observation) = 0;
};

// Of which rows. kSome: of others than the last alone or all; kBest: of the last row's the best
// few.
enum class LogitsWanted : uint8_t { kNone, kLast, kAll, kSome, kBest };
inline constexpr int64_t kLogitsChoices = 5;

struct ExecutorOptions {
  int64_t max_tokens = 512;  // of a pass
  int64_t max_logits = 1;    // rows of a pass whose logits may be wanted
  SparseMode mode = SparseMode::kDense;
  // What the predictor reads, if there is one.
  PredictorInput predictor_input = PredictorInput::kNormed;
  // Of batches on a queued device: are the weights of cold neurons streamed to it?
  StreamCold stream_cold = StreamCold::kOff;
  uint64_t stream_piece_bytes = kStreamPieceBytes;

  bool MayStream() const { return stream_cold != StreamCold::kOff && max_tokens > kMaxKeptTokens; }
};

// What was computed so far, over the tokens whose neurons could be skipped one by one (larger
// batches run dense and are not counted).
struct FfnCounts {
  int64_t tokens = 0;
  std::vector<FfnCount> layers;  // (n_layers), both tiers together

  void Add(const FfnCounts& other) {
    layers.resize(other.layers.size());
    tokens += other.tokens;
    for (size_t l = 0; l < layers.size(); ++l) layers[l].Add(other.layers[l]);
  }
  FfnCount Sum() const {
    FfnCount sum;
    for (const FfnCount& layer : layers) sum.Add(layer);
    return sum;
  }
};

// Bytes of the run state's buffers in each tier.
struct StateSize {
  uint64_t fast_bytes = 0;
  uint64_t slow_bytes = 0;
};

class Executor {
 public:
  // `slow` may be null when no layer has a cold slice. Everything referenced must outlive the
  // executor. predictors: (n_layers), or empty where kPredicted is not asked for.
  Executor(const ModelConfig& config, const ModelWeights& weights, const ExecutorOptions& options,
           ThreadTeam& team, KvCache& cache, Device& fast, Device* slow,
           std::span<const SlicePredictor> predictors = {});

  // For the memory plan. max_hot, max_cold: most neurons a layer has on the fast and on the slow
  // tier.
  static StateSize StateBytes(const ModelConfig& config, const ExecutorOptions& options,
                              int64_t max_hot, int64_t max_cold);

  // Feeds the rows. Returns the logits of those that want them, in their order: (n_wanted,
  // vocab_size). Valid until the next call. REQUIRES: 0 < n_rows <= max_tokens, n_wanted <=
  // max_logits; the cache holds all positions before a row's own, and its pages have room for it.
  // On a queued device one segment, in the cache's first pages.
  std::span<const float> Run(const Batch& batch);

  // Most tokens that RunBest can be asked for; 0 where the logits lie in host memory anyway.
  int64_t max_best() const { return queued_ == nullptr ? 0 : queued_->max_best(); }
  // The same for a batch whose last row alone wants logits, but only the k best of them come to the
  // host, best first (of equal ones the lower id); fewer where fewer are finite.
  // REQUIRES: 1 <= k <= max_best().
  std::span<const TokenLogit> RunBest(const Batch& batch, int64_t k);

  // One segment of a sequence that has the cache to itself.
  Batch OnlySequence(std::span<const int32_t> ids, int64_t first_position,
                     LogitsWanted wanted = LogitsWanted::kLast) const;

  // For work that goes through a text layer by layer, with the residual streams of all its tokens
  // at hand. x: (n, d_model) in host memory. RunLayers updates x by layers [layer_begin,
  // layer_end), at positions first_position ... of a sequence that has the cache to itself; these
  // layers' cache must hold the positions before (0 starts a new sequence). REQUIRES: 0 < n <=
  // max_tokens.
  void Embed(std::span<const int32_t> ids, float* x);
  void RunLayers(float* x, int64_t n, int64_t first_position, int64_t layer_begin,
                 int64_t layer_end);

  void set_mode(SparseMode mode) { options_.mode = mode; }
  // In kPredicted, also count the active neurons that were not predicted (which takes every gate).
  void set_audit(bool audit) { audit_ = audit; }
  // With an observer every FFN runs dense, since h of all neurons is what it wants. Null: none.
  void set_observer(FfnObserver* observer) { observer_ = observer; }
  const FfnCounts& counts() const { return counts_; }
  // Measure where the time of the passes goes that follow, until it is null (costs a clock reading
  // per part and layer on each thread, and on a queued device a kernel). REQUIRES: made for as many
  // threads as the team has; outlives them.
  void set_profile(PassProfile* profile);
  void ResetCounts();
  StreamUse stream_use() const;
  // Null where nothing may be streamed; for tests.
  WeightStream* weight_stream() { return weight_stream_.get(); }
  // The residual stream after each layer of the last pass's last token: (n_layers, d_model); for
  // tests.
  void set_keep_hidden(bool keep);
  std::span<const float> hidden() const { return hidden_; }

 private:
  struct PassArgs {
    const Batch* batch = nullptr;
    std::vector<int32_t> ids;            // the rows' tokens
    std::vector<BatchSegment> segments;  // of the batch
    LogitsWanted wanted = LogitsWanted::kNone;
    int64_t n_best = 0;  // of kBest

    int64_t n() const { return batch->n_rows(); }
    int64_t first_position() const { return batch->rows.front().position; }
  };
  static PassArgs ArgsOf(const Batch& batch, int64_t n_best = 0);
  // A thread's lanes: among all, and within its tier while both tiers run (none for the other
  // tier).
  struct Lanes {
    Lane all;
    std::optional<Lane> fast;
    std::optional<Lane> slow;
  };

  void AllocateState();
  void AllocateFfn(FfnState& state, int64_t max_neurons, Device& device);
  void MakeGroups();
  Lanes LanesOf(int thread);
  PassTimer* TimerOf(int thread) const { return profile_ ? profile_->timer(thread) : nullptr; }
  void BeginPass(const PassArgs& args);
  void RunPass(const PassArgs& args);
  void EndPass(int64_t n);
  void RunLanes(const Lanes& lanes, const PassArgs& args);
  void RunLayer(const Lanes& lanes, int64_t layer, const PassArgs& args, uint32_t* handovers);
  void RunFfn(const Lanes& lanes, int64_t layer, int64_t n, uint32_t* handovers);
  void RunSlowTier(const Lane& lane, int64_t layer, int64_t n, uint32_t handover);
  void RunTier(const Lane& lane, Device& device, int64_t layer, const FfnOp& op, const float* x,
               int64_t n, const FfnState& state);
  // ---- executor_queued.cc: where the fast tier is a device that works behind the host ----
  void PassQueued(const PassArgs& args);
  void EnqueueAndRun(const PassArgs& args);
  Lanes QueuedLanes() const;
  void RunLayersQueued(const PassArgs& args, int64_t layer_begin, int64_t layer_end);
  int64_t PassKey(const PassArgs& args) const;
  void RunSlowTiers(int64_t n, int64_t layer_begin, int64_t layer_end, uint32_t* handovers);
  void ObserveQueued(int64_t layer, int64_t n);
  void FinishQueued();
  // ---- executor_stream.cc: batches whose cold neurons' weights go to the fast tier ----
  bool ChooseStream(int64_t n);
  void MeasureStream(int64_t n);
  double MeasureCpu(const FfnSlice& slice, int64_t n);
  void RunStreamed(int64_t layer, const float* x, int64_t n);

  FfnOp MakeFfnOp(int64_t layer, const FfnSlice& slice, bool predicted) const;
  const float* FfnInput(int64_t layer) const { return state_.ffn_x[layer % 2]; }
  const float* PredictorX(int64_t layer) const;
  void CountPass(int64_t n);
  void Observe(const Lane& lane, int64_t layer, int64_t n);
  void RunOutput(const Lane& lane, const PassArgs& args);

  const ModelConfig& config_;
  const ModelWeights& weights_;
  ExecutorOptions options_;
  ThreadTeam& team_;
  KvCache& cache_;
  Device& fast_;
  Device* slow_;
  RopeAngles angles_;
  RunState state_;
  std::vector<int32_t> all_pages_;  // of the cache, in their order
  std::vector<float> cos_;          // (max_tokens, rot_dim / 2)
  std::vector<float> sin_;
  QueuedDevice* queued_;                // the fast tier, if it is one
  std::unique_ptr<Handover> handover_;  // null where no layer has a cold slice
  std::unique_ptr<WeightStream> weight_stream_;
  StreamUse stream_use_;
  BusTraffic traffic_before_;  // this pass
  bool streams_ = false;       // this pass
  int n_fast_lanes_ = 0;       // while both tiers run
  LaneGroup* all_group_ = nullptr;
  LaneGroup* fast_group_ = nullptr;
  LaneGroup* slow_group_ = nullptr;
  std::span<const SlicePredictor> predictors_;
  bool audit_ = false;
  FfnObserver* observer_ = nullptr;
  FfnCounts counts_;
  PassProfile* profile_ = nullptr;
  PassMarker* queued_marks_ = nullptr;                // of a queued device that is profiled
  std::vector<std::array<FfnCount, 2>> pass_counts_;  // (n_layers) per tier, of the running pass
  std::vector<float> host_logits_;  // of a queued device, and what observers read of its FFN
  std::vector<TokenLogit> best_;
  std::vector<float> host_h_;
  std::vector<float> host_x_;
  bool keep_hidden_ = false;
  std::vector<float> hidden_;
};

}  // namespace thermocline
