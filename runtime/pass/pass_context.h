// What all ways to run a pass work with: the model, the tiers, and the buffers of a pass.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "predictor/predictor.h"
#include "predictor/sparse_mode.h"
#include "runtime/device/device.h"
#include "runtime/device/handover.h"
#include "runtime/device/stream_choice.h"
#include "runtime/device/weight_stream.h"
#include "runtime/model/model.h"
#include "runtime/model/rope.h"
#include "runtime/pass/ffn_observer.h"
#include "runtime/pass/pass.h"
#include "runtime/pass/read_pace.h"
#include "runtime/timing/pass_profile.h"

namespace thermocline {

inline constexpr int32_t kMaxExecutors = 4;

struct ExecutorOptions {
  int64_t max_tokens = 512;  // of a pass
  int64_t max_logits = 1;    // rows of a pass whose logits may be wanted
  SparseMode mode = SparseMode::kDense;
  // What the predictor reads, if there is one.
  PredictorInput predictor_input = PredictorInput::kNormed;
  // Keep what attention read until the layer's FFN is done, for an observer.
  bool keep_attention_input = false;
  // Whether batches on a queued device have the weights of the other tiers' neurons streamed to it.
  StreamCold stream_cold = StreamCold::kOff;
  uint64_t stream_piece_bytes = kStreamPieceBytes;
  // Which of several executors on one queued device it is, below kMaxExecutors: what they enqueue
  // is kept apart.
  int32_t executor = 0;
  // What the first tier has room for at the least, where weights change between passes: neurons of
  // a slice, and the rank of a stand-in.
  int64_t least_neurons = 0;
  int64_t least_rank = 0;
  // Bytes per second that other tiers than the first give at most (ReadPace); 0: what they can.
  double slow_bytes_per_s = 0;

  bool MayStream() const { return stream_cold != StreamCold::kOff && max_tokens > kMaxKeptTokens; }
};

// Counters of a model's neurons, in memory of the tiers' devices: (n_layers) by tier, null where
// nothing is counted. FfnOp::fired says what they count.
using FiredCounters = std::vector<std::vector<uint32_t*>>;

// What a layer's attention reads and writes, in memory of the tier that has it.
struct AttentionBuffers {
  const float* x = nullptr;  // (n, d_model) normalised
  float* q = nullptr;        // (n, n_heads * head_dim)
  float* k = nullptr;        // (n, n_kv_heads * head_dim)
  float* v = nullptr;        // (n, n_kv_heads * head_dim)
  float* att = nullptr;      // (n, n_heads * head_dim) what heads found
  float* out = nullptr;      // (n, d_model)
};

// A tier while the model runs. The first is the fast one: it computes everything but the FFNs of
// the neurons, and the attention of the layers, that lie on others.
struct Tier {
  Device* device = nullptr;
  FfnState state;
  std::unique_ptr<Handover> handover;  // with the first tier; null for that itself
  std::unique_ptr<ReadPace> pace;      // null: as fast as it can
  // Where layers attend here and the first tier's memory is not this one's.
  AttentionBuffers attention;
  // (n_layers + 1) how many hand-overs the layers before have with it: of FFNs, of attention.
  std::vector<uint32_t> ffns_before;
  std::vector<uint32_t> attention_before;
};

// What a tier other than the first computes of the layers.
struct TierShare {
  int64_t max_neurons = 0;     // of a layer
  bool attends_apart = false;  // with buffers of its own
};

class PassContext {
 public:
  // Everything referenced must outlive the context. predictors: (n_layers), or empty where
  // kPredicted is not asked for. model_adapters: null, or made for these tiers.
  PassContext(const ModelConfig& model_config, const ModelWeights& model_weights,
              const ExecutorOptions& executor_options, ThreadTeam& thread_team, KvCache& kv_cache,
              std::span<Device* const> devices, std::span<const LayerPredictors> slice_predictors,
              const ModelAdapters* model_adapters = nullptr);

  // Bytes of the buffers by tier, for the memory plan.
  static std::vector<uint64_t> BufferBytes(const ModelConfig& config,
                                           const ExecutorOptions& options,
                                           std::span<const TierShare> shares);

  // Fills what is said anew for every pass. REQUIRES: what Executor::Run requires of the batch.
  void BeginPass(const Pass& pass);

  Device& fast() const { return *tiers.front().device; }
  const FfnSlice& slice(int64_t layer, size_t tier) const {
    return weights.layers[static_cast<size_t>(layer)].slices[tier];
  }
  // Whether rows of the pass use adapters.
  bool adapts() const { return adapters != nullptr && !adapter_rows.groups().empty(); }
  // Whether a pass of n rows counts which neurons fire. All tiers count the same passes.
  bool CountsFired(int64_t n) const {
    return fired != nullptr && observer == nullptr && options.mode != SparseMode::kDense &&
           (fast().queued() == nullptr || n <= kMaxKeptTokens);
  }
  bool Has(int64_t layer, size_t tier) const { return slice(layer, tier).n_neurons > 0; }
  size_t AttentionTier(int64_t layer) const {
    return weights.layers[static_cast<size_t>(layer)].attention_tier;
  }
  // Whether a layer attends on a tier whose memory the fast one does not reach.
  bool AttendsAway(int64_t layer) const {
    return AttentionTier(layer) > 0 && fast().queued() != nullptr;
  }
  AttentionBuffers BuffersOf(int64_t layer) const;
  // How many hand-overs with a tier the pass has before a layer's FFN; its attention's is the one
  // before that.
  uint32_t HandoversBefore(size_t tier, int64_t layer, const Pass& pass) const;
  PassTimer* TimerOf(int thread) const { return profile ? profile->timer(thread) : nullptr; }
  RopeOp rope(int64_t layer) const;
  // What the running pass leaves out in a layer; null: nothing by thresholds.
  const LayerCuts* CutsOf(int64_t layer) const {
    return n_cut_rows == 0 ? nullptr : &cuts->layers[static_cast<size_t>(layer)];
  }
  // Returns the dense FFN of a layer over some of its neurons.
  FfnOp MakeFfnOp(int64_t layer, const FfnSlice& slice) const;

  const ModelConfig& config;
  const ModelWeights& weights;
  ExecutorOptions options;
  ThreadTeam& team;
  KvCache& cache;
  std::vector<Tier> tiers;
  std::span<const LayerPredictors> predictors;
  const ModelAdapters* adapters;  // null: none
  AdapterRows adapter_rows;       // of the running pass
  RunState state;
  LaneGroup* all_lanes;
  int64_t n_cut_rows = 0;          // of the running pass: rows whose channels are cut
  bool streams_ffn = false;        // of the running pass: no FFN is handed over
  std::vector<int64_t> skip_rows;  // (n_layers) FfnOp::skip_rows; empty: 0
  bool audit = false;
  FfnObserver* observer = nullptr;
  const FiredCounters* fired = nullptr;
  ChannelCuts* cuts = nullptr;  // of mode kThreshold; null: there are none
  PassProfile* profile = nullptr;
  bool keep_hidden = false;
  std::vector<float> hidden;                  // (n_layers, n_streams * d_model), where it is kept
  std::vector<std::vector<FfnCount>> counts;  // (n_layers) by tier, of the running pass

 private:
  void MarkCutRows(const Pass& pass);
  void CheckPages(const Batch& batch, const BatchRow& row) const;
  void AllocateState();
  void AllocateTiers(std::span<Device* const> devices);
  std::unique_ptr<Handover> MakeHandover(Tier& tier);
  void AllocateAttention(Tier& tier);

  // The angles of a pass's tokens by one of the model's rotations.
  struct Turns {
    explicit Turns(const RopeConfig& config) : angles(config) {}
    void Resize(int64_t max_tokens);
    void Fill(int64_t token, int64_t position);

    RopeAngles angles;
    std::vector<float> cos;  // (max_tokens, rot_dim / 2)
    std::vector<float> sin;
  };
  Turns main_turns_;
  std::optional<Turns> local_turns_;
};

}  // namespace thermocline
