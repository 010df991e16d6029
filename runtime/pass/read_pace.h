// Makes a tier as slow as a memory of a given bandwidth would be, so that a machine can be
// rehearsed that has another ratio between its tiers (a GPU's memory to the host's) than this one.
#pragma once

#include <chrono>
#include <cstdint>

#include "runtime/device/ops.h"
#include "runtime/model/model.h"

namespace thermocline {

// A bucket that fills at the rate and holds nothing beyond: who has not read for a while has saved
// up nothing. By one thread at a time.
class ReadPace {
 public:
  using Clock = std::chrono::steady_clock;

  explicit ReadPace(double bytes_per_s) : bytes_per_s_(bytes_per_s) {}
  double bytes_per_s() const { return bytes_per_s_; }
  // Returns when n_bytes whose reading began at `began` have all come, as the memory would have
  // them: behind what was asked for before.
  Clock::time_point Due(Clock::time_point began, uint64_t n_bytes);
  // Waits until then.
  static void WaitUntil(Clock::time_point due);

 private:
  double bytes_per_s_;
  Clock::time_point free_ = {};  // when what was asked for so far has come
};

// Bytes of weights that an FFN read from its tier's memory: each neuron's once, however many tokens
// of the pass computed it.
uint64_t ReadBytes(const FfnSlice& slice, const FfnCount& count);

}  // namespace thermocline
