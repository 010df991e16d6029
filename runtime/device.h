// What the executor asks of a device: the steps of a layer, over device memory. Steps are
// collective: every lane of the group calls the same step with the same arguments, does its part
// and returns when the step is complete for all (a device that works by itself is driven by a group
// of one lane and may return earlier, as long as its own later steps and the hand-over see the
// result).
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "predictor/predictor.h"
#include "runtime/kv_cache.h"
#include "runtime/model.h"
#include "runtime/team.h"

namespace thermocline {

struct LinearStep {
  const LinearWeights* weights;  // (d_out, d_in)
  float* out;                    // (n, d_out)
};

// The angles of a step's tokens: cos, sin: (n, n_frequencies) f32.
struct RopeStep {
  RopePairing pairing;
  int64_t rot_dim;
  const float* cos;
  const float* sin;
};

// Which tokens attend, in which layer, and how wide the heads are.
struct AttentionStep {
  int64_t layer;
  int64_t first_position;
  int64_t n;  // tokens
  int64_t n_heads;
  int64_t n_kv_heads;
  int64_t head_dim;
};

struct FfnStep {
  const FfnSlice* slice;
  Activation activation;
  // Exact: up and down only where act(gate) != 0. Of batches, which run dense, it may be ignored.
  bool skip_inactive = false;
  // Predicted: gates, too, only of the neurons it names. Of larger batches it may be ignored.
  const SlicePredictor* predictor = nullptr;
  const float* predictor_x = nullptr;  // (n, d_model) what it reads
  // Also count the active neurons that it does not name, which takes every gate.
  bool audit = false;
};

// What a step computed of a slice's neurons, summed over its tokens.
struct FfnCount {
  int64_t tokens = 0;  // whose neurons could be skipped one by one; 0 for a batch run as a whole
  int64_t gates = 0;   // neurons whose gate row was read
  int64_t active = 0;  // neurons whose up and down rows were read
  int64_t hits = 0;    // audit: active neurons that were predicted
  int64_t missed = 0;  // audit: and those that were not

  // Of the active neurons, the share that was predicted. REQUIRES: audit.
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

class Device {
 public:
  virtual ~Device() = default;
  virtual const std::string& name() const = 0;

  // Memory that lives as long as the device; zero-filled. Throws Error naming `purpose`.
  virtual void* Allocate(uint64_t n_bytes, const std::string& purpose) = 0;
  // Copies from host memory into memory of this device.
  virtual void Upload(void* destination, const void* source, uint64_t n_bytes) = 0;
  virtual uint64_t allocated_bytes() const = 0;

  // x[t] = table[ids[t]]. x: (n, d_model).
  virtual void Embed(const Lane& lane, const TensorView& table, std::span<const int32_t> ids,
                     float* x) = 0;
  // x, out: (n, d).
  virtual void RmsNorm(const Lane& lane, const float* x, const float* weight, float eps, int64_t n,
                       int64_t d, float* out) = 0;
  // out_i = x W_i^T + bias_i for several matrices that read the same x: (n, d_in).
  virtual void Linear(const Lane& lane, std::span<const LinearStep> steps, const float* x,
                      int64_t n) = 0;
  // Turns q: (n, n_heads, head_dim) and k: (n, n_kv_heads, head_dim) in place, and stores k and
  // v: (n, n_kv_heads, head_dim) in the cache at positions first_position ....
  virtual void RopeAppend(const Lane& lane, const RopeStep& rope, const KvCache& cache,
                          const AttentionStep& step, float* q, float* k, const float* v) = 0;
  // Causal attention of the step's tokens. q, out: (n, n_heads, head_dim).
  virtual void Attend(const Lane& lane, const KvCache& cache, const AttentionStep& step,
                      const float* q, float* out) = 0;
  // state.y = the slice's part of the FFN of x: (n, d_model). Returns what was computed, the same
  // on every lane.
  virtual FfnCount Ffn(const Lane& lane, const FfnStep& step, const float* x, int64_t n,
                       const FfnState& state) = 0;
  // x += y_0 + y_1 .... x, y_i: (n) f32.
  virtual void Add(const Lane& lane, float* x, std::span<const float* const> ys, int64_t n) = 0;
  // x += y; out = RmsNorm(x). x, y, out: (n, d).
  virtual void AddRmsNorm(const Lane& lane, float* x, const float* y, const float* weight,
                          float eps, int64_t n, int64_t d, float* out) = 0;
};

}  // namespace thermocline
