// Batches over neurons that do not fit the fast tier: their weights go over the bus piece by piece,
// while the piece before is multiplied. A piece is some neurons of a slice with their gate, up and
// down rows. Threads of the host pack it into one of two staging buffers, a copy takes it to one of
// two buffers of the device, and its part of the FFN is added to the rest; who needs a buffer waits
// until the piece before the last has left it.
//
// Nothing here waits for what a piece is multiplied with. So the pieces of a pass are one sequence:
// while the device is still at a layer's last pieces, or at the next one's attention, the next
// layer's first are packed and copied.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "runtime/core/tensor_view.h"
#include "runtime/device/device.h"
#include "runtime/device/stream_choice.h"
#include "runtime/threads/team.h"

namespace thermocline {

inline constexpr uint64_t kStreamPieceBytes = 8 << 20;

struct WeightStreamLimits {
  int64_t max_tokens = 0;  // of a batch
  int64_t d_model = 0;
  int64_t max_neurons = 0;  // of a slice
  // Bytes of a staging buffer at most; one neuron always fits.
  uint64_t piece_bytes = kStreamPieceBytes;
  // What a piece waits for the ones before it, at most.
  uint32_t timeout_ms = 60'000;
};

// Memory of a stream.
struct WeightStreamBytes {
  uint64_t device = 0;
  uint64_t pinned = 0;  // of the host
};

class WeightStream {
 public:
  virtual ~WeightStream() = default;

  // Before a pass: waits until nothing of a pass that failed is under way. Throws Error where the
  // device has failed.
  virtual void BeginPass() = 0;

  enum class Into : uint8_t { kReplace, kAdd };
  // y = (y +) the slice's part of the FFN of x, all of its neurons. pass.slice: in host memory,
  // down per neuron. x, y: (n, d_model) in memory of the device. Packs with all threads of the
  // team; returns when all is enqueued. Throws Error when packing fails, or when the device does
  // not come to a piece within the timeout; what y becomes is then worthless.
  virtual void Ffn(ThreadTeam& team, const FfnOp& op, const float* x, int64_t n, float* y,
                   Into into) = 0;

  // Returns how many of a slice's neurons are enough to measure rates on.
  virtual int64_t ProbeNeurons(const FfnSlice& slice) const = 0;
  // Measures on pass.slice how fast weights get to the device and how fast they are multiplied
  // there by n tokens, each the second time. x and y as above; y is overwritten. Returns with
  // nothing under way.
  virtual StreamRates Measure(ThreadTeam& team, const FfnOp& op, const float* x, int64_t n,
                              float* y) = 0;

  // Packs a row of a matrix (runtime/device/gpu/gpu_rows.h); tests put one in its place that fails.
  using RowPacker = std::function<void(const TensorView&, int64_t row, std::byte* out)>;
  virtual void set_row_packer(RowPacker packer) = 0;
};

}  // namespace thermocline
