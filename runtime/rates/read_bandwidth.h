// Measures how fast this machine reads memory: the roof under which decoding runs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

namespace thermocline {

// Holds each thread of TimeOnTeam's on a CPU of its own while it lives (two threads on one CPU
// would measure the scheduler), then lets them go where they were allowed before.
class PinnedTeam {
 public:
  explicit PinnedTeam(int n_threads);
  ~PinnedTeam();
  PinnedTeam(const PinnedTeam&) = delete;
  PinnedTeam& operator=(const PinnedTeam&) = delete;

 private:
  int n_threads_;
};

// Runs work(thread, n_threads) on a team of n_threads once, all starting together, and returns the
// seconds from the start to the end of the slowest. It is called from one thread at a time.
double TimeOnTeam(int n_threads, const std::function<void(int thread, int n_threads)>& work);

// Returns the bytes per second of one plain streaming read of n_bytes (a multiple of 64) at
// `memory`.
double TimeStreamingRead(int n_threads, const std::byte* memory, uint64_t n_bytes);

// Returns what n_threads together read in bytes per second: the median of several passes over
// n_bytes of memory (192 MiB and more make sense), timed in segments of 48 MiB, more than a
// last-level cache keeps of the pass before. It is the median and not the best, since what runs
// beside it on the machine takes its share from what is measured against this, too.
double MeasureReadBandwidth(int n_threads, uint64_t n_bytes);

}  // namespace thermocline
