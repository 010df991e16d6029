// What a device offers that carries out ops behind the host's back, in the order in which one lane
// enqueues them. What ops return is not known until Finish.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "predictor/sign_predictor.h"
#include "runtime/core/token_logit.h"
#include "runtime/device/batch.h"
#include "runtime/device/ops.h"
#include "runtime/timing/bus_traffic.h"
#include "runtime/timing/pass_timer.h"

namespace thermocline {

class Handover;
class WeightStream;
struct WeightStreamLimits;

inline constexpr int64_t kMaxKeptTokens = 16;  // of a pass that a queue may keep

// Passes: what is enqueued, kept and waited for.
class DeviceQueue {
 public:
  virtual ~DeviceQueue() = default;

  // Before ops are enqueued for these rows. All must stay until Finish. adapter_rows: which
  // adapters they use; null where none does.
  virtual void BeginPass(const Batch& batch, std::span<const BatchSegment> segments,
                         const AdapterRows* adapter_rows) = 0;
  // Has enqueue() enqueue ops. They may be kept under `key` and be carried out again, for another
  // pass, instead of calling it: with one key, and as many rows in segments as many and as long, it
  // must always enqueue the same. Which adapters rows use may differ, if some use any or none does.
  virtual void Run(int64_t key, const std::function<void()>& enqueue) = 0;
  // Waits for all that was enqueued. Throws Error where any of it failed.
  virtual void Finish() = 0;
  // What the FFN of a layer computed in the last pass. REQUIRES: finished.
  virtual FfnCount CountOf(int64_t layer) const = 0;
  // Copies into host memory. REQUIRES: finished.
  virtual void Download(void* destination, const void* source, uint64_t n_bytes) = 0;
};

// Choosing tokens where the logits lie.
class DeviceSampling {
 public:
  virtual ~DeviceSampling() = default;

  // Enqueues a search for the k best of each row of logits (n_rows, vocab_size) in this device's
  // memory. REQUIRES: 1 <= k <= max_best(), no more rows than the device was made for.
  virtual int64_t max_best() const = 0;
  virtual void FindBest(const float* logits, int64_t n_rows, int64_t k) = 0;
  // What it found in a row, best first (of equal logits the lower id); fewer where fewer than k are
  // finite. REQUIRES: finished.
  virtual std::vector<TokenLogit> Best(int64_t row, int64_t k) const = 0;
};

// Where a pass's time goes on the device.
class DeviceTimes {
 public:
  virtual ~DeviceTimes() = default;

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

// How the device and a tier of the host work on one layer.
class DeviceLinks {
 public:
  virtual ~DeviceLinks() = default;

  // predictor_apart: the slow tier's predictor reads another vector than its FFN.
  virtual std::unique_ptr<Handover> MakeHandover(int64_t max_tokens, int64_t d_model,
                                                 bool predictor_apart) = 0;
  // Weights from a tier of the host, for batches.
  virtual std::unique_ptr<WeightStream> MakeWeightStream(const WeightStreamLimits& limits) = 0;
};

// What only such a device keeps in a form of its own.
class QueuedStore {
 public:
  virtual ~QueuedStore() = default;

  // The sign bits of a slice's gates, for the predictor of its Ffn.
  virtual DeviceSigns StoreSigns(const SignRows& rows) = 0;
  // A matrix whose rows Embed reads one by one.
  virtual TensorView StoreTable(const TensorView& source) = 0;
  // Memory of the host's that it has: tables, what is handed over, pieces of what is streamed.
  virtual uint64_t host_bytes() const = 0;
};

}  // namespace thermocline
