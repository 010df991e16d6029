// How a layer's FFN crosses between the GPU and the CPU, without the host waiting for the GPU: a
// kernel publishes x in mapped memory and sets a flag, CPU threads answer with their part of y the
// same way, a kernel of one thread waits for their flag, and the next one merges. All of it can be
// captured: hand-overs are numbered 1, 2, 3, ... by a counter in device memory, which the
// publishing kernel advances, so a replayed graph goes on where the last one stopped.
//
// An answer that does not come within the timeout is lost: the waiting kernel notes which and goes
// on, later ones wait no more, and ThrowIfLost() tells. What the pass computed is then worthless.
//
// On the host, for hand-over number i: wait until Published() is i (and look at Lost() meanwhile),
// read x(), write y(), call Answer(i). x() stays until then, y() is the GPU's from then on.
#pragma once

#include <cstdint>

#include "gpu_kernels/base/device_memory.h"
#include "gpu_kernels/base/stream.h"

namespace thermocline {

// Where the kernels count; in device memory.
struct GpuHandoverCounters {
  uint32_t number;  // of the last hand-over published
  uint32_t ticket;  // blocks of the publishing kernel that are done
  uint32_t lost;    // not 0: an answer was lost
};

// In mapped memory; what different processors write lies in different lines.
struct GpuHandoverFlags {
  alignas(128) uint32_t published;
  alignas(128) uint32_t answered;
  // Written once, `lost` last.
  alignas(128) uint32_t lost;
  int32_t lost_layer;
  uint32_t lost_number;
  uint32_t last_answer;
};

class GpuHandover {
 public:
  struct Shape {
    int64_t max_tokens;
    int64_t d_model;
  };
  // stream: initialised on it. Throws Error when there is no memory.
  GpuHandover(Stream& stream, const Shape& shape, uint32_t timeout_ms);

  // x: (n_tokens, d_model) f32 in device memory. Asynchronous; throws Error on launch.
  void Publish(Stream& stream, const float* x, int64_t n_tokens);
  // The GPU waits for the answer to the last hand-over published. layer: for the report of a lost
  // one. Asynchronous; throws Error on launch.
  void Await(Stream& stream, int32_t layer);
  // Behind Await: x += y_hot, x += the CPU's y. y_hot: (n_tokens, d_model) f32 in device memory, or
  // null. After a lost answer x is not written. Asynchronous; throws Error on launch.
  void Merge(Stream& stream, float* x, const float* y_hot, int64_t n_tokens);

  // The host's side, for any thread.
  uint32_t Published() const;
  const float* x() const { return x_.host<float>(); }
  float* y() const { return y_.host<float>(); }
  void Answer(uint32_t number) const;
  bool Lost() const;
  // Throws Error that names the layer when an answer was lost.
  void ThrowIfLost() const;

 private:
  GpuHandoverFlags* flags() const { return flags_.host<GpuHandoverFlags>(); }

  Shape shape_;
  uint32_t timeout_ms_;
  DeviceMemory counters_;
  MappedMemory flags_;
  MappedMemory x_;
  MappedMemory y_;
};

}  // namespace thermocline
