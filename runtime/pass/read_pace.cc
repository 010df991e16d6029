#include "runtime/pass/read_pace.h"

#include <algorithm>
#include <thread>

namespace thermocline {

ReadPace::Clock::time_point ReadPace::Due(Clock::time_point began, uint64_t n_bytes) {
  const std::chrono::duration<double> takes(static_cast<double>(n_bytes) / bytes_per_s_);
  free_ = std::max(free_, began) + std::chrono::duration_cast<Clock::duration>(takes);
  return free_;
}

// Sleeps, and spins at the end: a sleep ends late by some tens of microseconds, and a layer's part
// takes few hundred.
void ReadPace::WaitUntil(Clock::time_point due) {
  constexpr auto kLate = std::chrono::microseconds(150);
  if (due - Clock::now() > 2 * kLate) std::this_thread::sleep_until(due - kLate);
  while (Clock::now() < due) std::this_thread::yield();
}

uint64_t ReadBytes(const FfnSlice& slice, const FfnCount& count) {
  if (slice.n_neurons == 0) return 0;
  if (count.tokens == 0) return slice.weight_bytes();
  const auto share = [&](int64_t n) {
    return static_cast<double>(std::min(n, slice.n_neurons)) / static_cast<double>(slice.n_neurons);
  };
  const auto gate = static_cast<double>(slice.gate.weight_bytes());
  const auto others = static_cast<double>(slice.up.weight_bytes() + slice.down.weight_bytes());
  return static_cast<uint64_t>(gate * share(count.gates) + others * share(count.active));
}

}  // namespace thermocline
