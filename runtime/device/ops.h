// The ops of a layer, over a device's memory. An op is collective: every lane of the group calls it
// with the same arguments, does its part and returns when the op is complete for all. A device that
// works by itself is driven by a group of one lane and may return earlier, as long as its own later
// ops and the hand-over see the result.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "predictor/predictor.h"
#include "runtime/core/error.h"
#include "runtime/device/adapters.h"
#include "runtime/device/batch.h"
#include "runtime/device/channel_cuts.h"
#include "runtime/device/kv_cache.h"
#include "runtime/model/model.h"
#include "runtime/threads/team.h"

namespace thermocline {

struct LinearOp {
  const LinearWeights* weights;     // (d_out, d_in)
  float* out;                       // (n, d_out)
  const ChannelCut* cut = nullptr;  // of x; null: every channel is read
};

// The angles of a pass's tokens: cos, sin: (n, n_frequencies) f32 in host memory.
struct RopeOp {
  LayerRope layer_rope = LayerRope::kMain;
  RopePairing pairing = RopePairing::kAdjacent;
  int64_t rot_dim = 0;
  const float* cos = nullptr;
  const float* sin = nullptr;
};

// What is normalised, and how: rows of d, or each of `groups` equal parts of a row by itself.
struct NormOp {
  NormKind kind = NormKind::kRms;
  // (d), or of parts (d / groups) that all share, or (d) where each has its own. No weight: the
  // rows are copied as they are.
  NormWeights weights;
  float eps = 0;
  int64_t groups = 1;
  bool own_weights = false;  // of each part
};

// Several residual streams of n rows, and by how much an op mixes them in each row: c = coef route.
struct StreamsOp {
  float* streams;  // (n_streams, n, d_model)
  int64_t n_streams;
  int64_t active;
  const float* route;  // (n, n_streams)
  const float* coef;   // (n_c, n_streams), where the op says n_c
};

// What is added to scores by distance; see LayerWeights::relative_bias.
struct RelativeBias {
  const float* by_distance = nullptr;  // (n_heads, 2 * max_distance + 1) or null
  int64_t max_distance = 0;
};

// Which rows attend, in which layer, and how.
struct AttentionOp {
  int64_t layer;      // of the cache: whose keys and values
  size_t page_class;  // of that layer
  const Batch* batch;
  std::span<const BatchSegment> segments;  // of the batch
  int64_t n_heads;
  int64_t n_kv_heads;
  int64_t head_dim;
  float scale;         // of scores
  float soft_cap = 0;  // 0: none
  int64_t window = 0;  // positions that a row sees, its own included; 0: all before it
  RelativeBias bias = {};
  // Rows see all positions of their sequence's encoder text (BatchSequence::encoder_pages),
  // whatever their own position is. REQUIRES: no window, and one page class.
  bool sees_encoder = false;

  int64_t n() const { return batch->n_rows(); }
  // Where the keys and values lie that a row sees, and how many positions from 0 on it may see.
  KvPageTable PagesOf(const BatchRow& row) const {
    const BatchSequence& sequence = batch->sequence_of(row);
    return sees_encoder ? KvPageTable{0, sequence.encoder_pages} : sequence.tables[page_class];
  }
  int64_t EndSeen(const BatchRow& row) const {
    return sees_encoder ? batch->sequence_of(row).encoder_length : row.position + 1;
  }
  // Where a position that the row sees lies there, and the end of those in [position, end) that lie
  // behind each other.
  int64_t PlaceOf(const BatchRow& row, int64_t position) const {
    return sees_encoder ? position : batch->PlaceOf(row, position);
  }
  int64_t EndTogether(const BatchRow& row, int64_t position, int64_t end) const {
    return sees_encoder ? end : batch->EndTogether(row, position, end);
  }
  // Whether scores are scaled before something is done to them.
  bool ScalesFirst() const { return soft_cap != 0 || bias.by_distance != nullptr; }
  // The first position that the row at `position` sees.
  int64_t FirstSeen(int64_t position) const {
    return window == 0 ? 0 : std::max<int64_t>(0, position + 1 - window);
  }
};

// Positions whose keys and values an attention reads from memory, of each KV head, and how many it
// would if no two sequences shared a page.
struct KvReads {
  int64_t positions = 0;
  int64_t unshared = 0;

  KvReads& operator+=(const KvReads& other) {
    positions += other.positions;
    unshared += other.unshared;
    return *this;
  }
};

struct FfnOp {
  const FfnSlice* slice;
  int64_t layer = 0;
  Activation activation;
  float activation_threshold = 0;  // see FfnConfig
  bool relu_up = false;
  // Gates are cut first (see FfnConfig), where the slice has all neurons of the layer.
  // REQUIRES: no predictor.
  bool cuts_gates = false;
  float gate_cut = 0;
  // Exact: up and down only where act(gate) != 0. Of batches, which run dense, it may be ignored.
  bool skip_inactive = false;
  // Exact, on the CPU: batches of up to so many rows (at most kMostSkipRows) go neuron by neuron,
  // too, and skip what none of their rows needs; larger ones, from kGemmMinTokens on, run dense.
  int64_t skip_rows = 0;
  // Predicted: gates, too, only of the neurons it names. Of larger batches it may be ignored.
  const SlicePredictor* predictor = nullptr;
  const float* predictor_x = nullptr;  // (n, d_model) what it reads
  // Also count the active neurons that it does not name, which takes every gate.
  bool audit = false;
  // Thresholds: what gate, up and down read of their inputs, and which activated gates count. Null:
  // all of them.
  const FfnCuts* cuts = nullptr;
  float h_norm_eps = 0;  // of the norm of h, where the slice has one; it then has all neurons
  // What adapters add in this slice, by adapter, and which rows use them; empty: no row does.
  // Gates decide which neurons are active with what adapters add to them.
  std::span<const FfnLowRank> adapters = {};
  const AdapterRows* adapter_rows = nullptr;
  // (neurons of the slice) in the device's memory, or null: each token adds 1 to those of its
  // active neurons that it computes. A batch that a GPU runs dense adds nothing.
  uint32_t* fired = nullptr;
};

// What a pass computed of a slice's neurons, summed over its tokens.
struct FfnCount {
  int64_t tokens = 0;  // whose neurons could be skipped one by one; 0 for a batch run as a whole
  int64_t gates = 0;   // neurons whose gate row was read
  int64_t active = 0;  // neurons whose up and down rows were read
  int64_t hits = 0;    // audit: active neurons that were predicted
  int64_t missed = 0;  // audit: and those that were not

  // Returns the share of the active neurons that was predicted. REQUIRES: audit.
  double Recall() const {
    const int64_t all = hits + missed;
    return all == 0 ? 1 : static_cast<double>(hits) / static_cast<double>(all);
  }
  void Add(const FfnCount& other) {
    gates += other.gates;
    active += other.active;
    hits += other.hits;
    missed += other.missed;
  }
};

// Up to so many tokens are few: weights are read once for all of them, a token's results are the
// bits that it has alone, and its inactive neurons are skipped (docs/few-tokens.md). On the CPU,
// more are multiplied as panels (GEMM).
inline constexpr int64_t kFewTokens = 8;
// Where matrices are stored by column, batches of at least this many tokens are panels already.
inline constexpr int64_t kGemmMinTokens = 4;

// The most rows of a batch that may go neuron by neuron.
inline constexpr int64_t kMostSkipRows = 16;

class DeviceOps {
 public:
  virtual ~DeviceOps() = default;

  // x[t] = table[ids[t]]. x: (n, d_model).
  virtual void Embed(const Lane& lane, const TensorView& table, std::span<const int32_t> ids,
                     float* x) = 0;
  // x[t] += table[position of row t of the pass + offset]. x: (n, d_model).
  virtual void AddPositions(const Lane& lane, const TensorView& table, const Batch& batch,
                            int64_t offset, float* x) = 0;
  // out = norm(x). x, out: (n, d); out may be x.
  virtual void Norm(const Lane& lane, const NormOp& norm, const float* x, int64_t n, int64_t d,
                    float* out) = 0;
  // out_i = x W_i^T + bias_i for several matrices that read the same x: (n, d_in).
  virtual void Linear(const Lane& lane, std::span<const LinearOp> ops, const float* x,
                      int64_t n) = 0;
  // out_i += B_i (A_i x) of each of a layer's adapters, for the rows that use it. x: (n, d_in).
  // The factors are in the device's form.
  virtual void AddLowRank(const Lane& lane, const AdapterRows& rows,
                          std::span<const AttentionLowRank> adapters,
                          std::span<const LowRankOp> ops, const float* x, int64_t n,
                          int64_t d_in) = 0;
  // Turns q: (n, n_heads, head_dim) and k: (n, n_kv_heads, head_dim) in place (with rot_dim 0 they
  // stay), and stores k and v: (n, n_kv_heads, head_dim) in the cache, each row at its place
  // (Batch::place). k and v are null in a layer that reads another's.
  virtual void RopeAppend(const Lane& lane, const RopeOp& rope, const KvCache& cache,
                          const AttentionOp& op, float* q, float* k, const float* v) = 0;
  // Attention of each row over its sequence, causal unless the op says otherwise. q, out: (n,
  // n_heads, head_dim).
  virtual void Attend(const Lane& lane, const KvCache& cache, const AttentionOp& op, const float* q,
                      float* out) = 0;
  // What Attend reads for this op. What it goes through again soon enough to find it in a cache of
  // the processor counts once. By one thread.
  virtual KvReads ReadsOf(const AttentionOp& op) const = 0;
  // state.y = the slice's part of the FFN of x: (n, d_model). Returns what was computed, the same
  // on every lane.
  virtual FfnCount Ffn(const Lane& lane, const FfnOp& op, const float* x, int64_t n,
                       const FfnState& state) = 0;
  // x += y_0 + y_1 .... x, y_i: (n) f32.
  virtual void Add(const Lane& lane, float* x, std::span<const float* const> ys, int64_t n) = 0;
  // x += y; out = norm(x). x, y, out: (n, d).
  virtual void AddNorm(const Lane& lane, const NormOp& norm, float* x, const float* y, int64_t n,
                       int64_t d, float* out) = 0;
  // x[t] += bias. x: (n, d). bias: (d).
  virtual void AddBias(const Lane& lane, float* x, const float* bias, int64_t n, int64_t d) = 0;
  // x = scale x, and with a cap c then c tanh(x / c). x: (n) f32. A scale of 0 clears what may be
  // no number.
  virtual void Scale(const Lane& lane, float* x, float scale, float soft_cap, int64_t n) = 0;

  // ---- several streams, and what runs beside attention and FFN ----

  // x[t] += scale * table[ids[t]]. x: (n, d).
  virtual void AddTableRows(const Lane& lane, const TensorView& table, std::span<const int32_t> ids,
                            float scale, float* x) = 0;
  // out[t] = x[t] * by, element by element. x, out: (n, d); out may be x. by: (d).
  virtual void MultiplyRows(const Lane& lane, const float* x, const float* by, int64_t n, int64_t d,
                            float* out) = 0;
  // x[t] = act(x[t]) * by[t], element by element. x: (n, d). by: n rows of d, by_stride apart.
  virtual void ActivateMultiply(const Lane& lane, Activation activation, float* x, const float* by,
                                int64_t by_stride, int64_t n, int64_t d) = 0;
  // Scales each row of x to the root mean square of the row of `like`. The square of its own counts
  // as kLeastMeanSquare or more. x, like: (n, d).
  virtual void MatchRms(const Lane& lane, const float* like, int64_t n, int64_t d, float* x) = 0;
  // streams[i] += sum over j of c[i, j] streams[j] for all i at once; x = the active stream then.
  // n_c: n_streams * n_streams. x: (n, d).
  virtual void PredictStreams(const Lane& lane, const StreamsOp& op, int64_t n, int64_t d,
                              float* x) = 0;
  // streams[i] += (1 + c[i]) (x - streams[active]) for all i at once. n_c: n_streams. x: (n, d).
  virtual void CorrectStreams(const Lane& lane, const StreamsOp& op, int64_t n, int64_t d,
                              const float* x) = 0;
};

inline constexpr double kLeastMeanSquare = 1e-5;

}  // namespace thermocline
