// The ops of a layer, over a device's memory. An op is collective: every lane of the group calls it
// with the same arguments, does its part and returns when the op is complete for all. A device that
// works by itself is driven by a group of one lane and may return earlier, as long as its own later
// ops and the hand-over see the result.
#pragma once

#include <cstdint>
#include <span>

#include "predictor/predictor.h"
#include "runtime/device/batch.h"
#include "runtime/device/kv_cache.h"
#include "runtime/model/model.h"
#include "runtime/threads/team.h"

namespace thermocline {

struct LinearOp {
  const LinearWeights* weights;  // (d_out, d_in)
  float* out;                    // (n, d_out)
};

// The angles of a pass's tokens: cos, sin: (n, n_frequencies) f32 in host memory.
struct RopeOp {
  RopePairing pairing;
  int64_t rot_dim;
  const float* cos;
  const float* sin;
};

// Which rows attend, in which layer, and how wide the heads are.
struct AttentionOp {
  int64_t layer;
  const Batch* batch;
  std::span<const BatchSegment> segments;  // of the batch
  int64_t n_heads;
  int64_t n_kv_heads;
  int64_t head_dim;

  int64_t n() const { return batch->n_rows(); }
};

struct FfnOp {
  const FfnSlice* slice;
  int64_t layer = 0;
  Activation activation;
  // Exact: up and down only where act(gate) != 0. Of batches, which run dense, it may be ignored.
  bool skip_inactive = false;
  // Predicted: gates, too, only of the neurons it names. Of larger batches it may be ignored.
  const SlicePredictor* predictor = nullptr;
  const float* predictor_x = nullptr;  // (n, d_model) what it reads
  // Also count the active neurons that it does not name, which takes every gate.
  bool audit = false;
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

// Batches of at least this many tokens are multiplied as panels (GEMM), smaller ones row by row:
// where the panels are oneDNN's, and where a token's inactive neurons are skipped row by row.
inline constexpr int64_t kGemmMinTokens = 4;

class DeviceOps {
 public:
  virtual ~DeviceOps() = default;

  // x[t] = table[ids[t]]. x: (n, d_model).
  virtual void Embed(const Lane& lane, const TensorView& table, std::span<const int32_t> ids,
                     float* x) = 0;
  // x, out: (n, d).
  virtual void RmsNorm(const Lane& lane, const float* x, const float* weight, float eps, int64_t n,
                       int64_t d, float* out) = 0;
  // out_i = x W_i^T + bias_i for several matrices that read the same x: (n, d_in).
  virtual void Linear(const Lane& lane, std::span<const LinearOp> ops, const float* x,
                      int64_t n) = 0;
  // Turns q: (n, n_heads, head_dim) and k: (n, n_kv_heads, head_dim) in place, and stores k and
  // v: (n, n_kv_heads, head_dim) in the cache, each row at its position of its sequence.
  virtual void RopeAppend(const Lane& lane, const RopeOp& rope, const KvCache& cache,
                          const AttentionOp& op, float* q, float* k, const float* v) = 0;
  // Causal attention of each row over its sequence. q, out: (n, n_heads, head_dim).
  virtual void Attend(const Lane& lane, const KvCache& cache, const AttentionOp& op, const float* q,
                      float* out) = 0;
  // state.y = the slice's part of the FFN of x: (n, d_model). Returns what was computed, the same
  // on every lane.
  virtual FfnCount Ffn(const Lane& lane, const FfnOp& op, const float* x, int64_t n,
                       const FfnState& state) = 0;
  // x += y_0 + y_1 .... x, y_i: (n) f32.
  virtual void Add(const Lane& lane, float* x, std::span<const float* const> ys, int64_t n) = 0;
  // x += y; out = RmsNorm(x). x, y, out: (n, d).
  virtual void AddRmsNorm(const Lane& lane, float* x, const float* y, const float* weight,
                          float eps, int64_t n, int64_t d, float* out) = 0;
};

}  // namespace thermocline
