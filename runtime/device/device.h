// What the executor asks of a device: the ops of a layer, over device memory. An op is collective:
// every lane of the group calls it with the same arguments, does its part and returns when the op
// is complete for all. A device that works by itself is driven by a group of one lane and may
// return earlier, as long as its own later ops and the hand-over see the result.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "predictor/predictor.h"
#include "predictor/sign_predictor.h"
#include "runtime/core/token_logit.h"
#include "runtime/device/batch.h"
#include "runtime/device/kv_cache.h"
#include "runtime/model/model.h"
#include "runtime/threads/team.h"
#include "runtime/timing/bus_traffic.h"

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

// Batches of at least this many tokens are multiplied as panels (GEMM), smaller ones row by row:
// where the panels are oneDNN's, and where a token's inactive neurons are skipped row by row.
inline constexpr int64_t kGemmMinTokens = 4;
class Handover;
class QueuedDevice;
class WeightStream;
struct WeightStreamLimits;

class Device {
 public:
  virtual ~Device() = default;
  virtual const std::string& name() const = 0;
  // This device, if it is one whose memory the host does not reach and whose work it does not wait
  // for; null for one of the host.
  virtual QueuedDevice* queued() { return nullptr; }

  // Memory that lives as long as the device; zero-filled. Throws Error naming `purpose`.
  virtual void* Allocate(uint64_t n_bytes, const std::string& purpose) = 0;
  // Copies from host memory into memory of this device.
  virtual void Upload(void* destination, const void* source, uint64_t n_bytes) = 0;
  virtual uint64_t allocated_bytes() const = 0;
  // A matrix in memory of this device, in the form its kernels want: these rows of `source` in
  // their order, or all of them where `rows` is empty. source: in host memory, in a file's form.
  virtual TensorView StoreRows(const TensorView& source, std::span<const int32_t> rows,
                               const std::string& purpose) = 0;
  // Room for the keys and values of all sequences. Throws Error when the memory is not there, or
  // when the type does not go with head_dim.
  virtual std::unique_ptr<KvCache> MakeKvCache(const ModelConfig& config, DType dtype,
                                               int64_t n_pages) = 0;

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

// A device that carries out passes behind the host's back, in the order in which one lane enqueues
// them. What passes return is not known until Finish.
inline constexpr int64_t kMaxKeptTokens = 16;  // of a pass that a queued device may keep
class QueuedDevice : public Device {
 public:
  QueuedDevice* queued() final { return this; }

  // The sign bits of a slice's gates, for the predictor of its Ffn.
  virtual DeviceSigns StoreSigns(const SignRows& rows) = 0;
  // A matrix whose rows Embed reads one by one.
  virtual TensorView StoreTable(const TensorView& source) = 0;

  // Before passes are enqueued for these tokens. ids may be empty where nothing is embedded.
  virtual void BeginTokens(std::span<const int32_t> ids, int64_t n_tokens,
                           int64_t first_position) = 0;
  // Has enqueue() enqueue passes. They may be kept under `key` and be carried out again, for other
  // tokens, instead of calling it: with one key it must always enqueue the same.
  static constexpr int64_t kNoKey = -1;
  virtual void Run(int64_t key, const std::function<void()>& enqueue) = 0;
  // Waits for all that was enqueued. Throws Error where any of it failed.
  virtual void Finish() = 0;
  // What the FFN of a layer computed in the last pass. REQUIRES: finished.
  virtual FfnCount CountOf(int64_t layer) const = 0;
  // Enqueues a search for the k best of a row of logits (vocab_size) in this device's memory.
  // REQUIRES: 1 <= k <= max_best().
  virtual int64_t max_best() const = 0;
  virtual void FindBest(const float* logits, int64_t k) = 0;
  // What it found, best first (of equal logits the lower id); fewer where fewer than k are finite.
  // REQUIRES: finished.
  virtual std::vector<TokenLogit> Best(int64_t k) const = 0;
  // Copies into host memory. REQUIRES: finished.
  virtual void Download(void* destination, const void* source, uint64_t n_bytes) = 0;
  // To a tier of the host. predictor_apart: the slow tier's predictor reads another vector than its
  // FFN.
  virtual std::unique_ptr<Handover> MakeHandover(int64_t max_tokens, int64_t d_model,
                                                 bool predictor_apart) = 0;
  // From a tier of the host, for batches.
  virtual std::unique_ptr<WeightStream> MakeWeightStream(const WeightStreamLimits& limits) = 0;

  // Whether passes that are enqueued from here on note when each of their parts ends. Returns whom
  // to tell of the parts; null when off. REQUIRES: finished.
  virtual PassMarker* TimePasses(bool on) = 0;
  // From here on parts of one pass are enqueued, timed.
  virtual void BeginTimes() = 0;
  // The parts of the last pass, ascending. REQUIRES: it was timed; finished.
  virtual std::vector<PassSpan> PassSpans() const = 0;
  // Between this device's memory and the host's, by passes and what was downloaded since.
  virtual const BusTraffic& bus_traffic() const = 0;
};

}  // namespace thermocline
