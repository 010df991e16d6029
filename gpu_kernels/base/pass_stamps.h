// When the work on a stream got somewhere, by the GPU's own clock: kernels of one thread write it
// into slots. They can be captured; a graph that is replayed writes the same slots again. A stamp
// comes after all that was enqueued before it and holds up what follows by its own launch.
//
// The clock is %globaltimer, which some cards advance in steps of a microsecond. Emulated it is the
// host's.
#pragma once

#include <cstdint>

#include "gpu_kernels/base/device_memory.h"
#include "gpu_kernels/base/stream.h"

namespace thermocline {

class GpuStamps {
 public:
  explicit GpuStamps(int64_t n_slots);
  int64_t n_slots() const { return n_slots_; }

  // Writes the time to a slot. Asynchronous; throws Error on launch.
  void Stamp(Stream& stream, int64_t slot);
  // Brings the first n slots to the host. Asynchronous.
  void Collect(Stream& stream, int64_t n);
  // REQUIRES: collected, and the stream has been waited for.
  int64_t ns(int64_t slot) const;

 private:
  int64_t n_slots_;
  DeviceMemory slots_;  // (n_slots) u64
  MappedMemory host_;   // the same
};

// What added to a stamp's time gives that of the host's steady clock, off by at most half of what
// the quickest of a few stamps took from the host and back. Waits for the stream; uses slot 0.
int64_t MeasureClockOffsetNs(Stream& stream, GpuStamps& stamps);

}  // namespace thermocline
