// Where the time of passes goes, on every thread of the team and on a queued device, and what
// crossed the bus. The executor fills it; `bench` and --trace read it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "runtime/timing/bus_traffic.h"
#include "runtime/timing/pass_timer.h"

namespace thermocline {

class PassProfile {
 public:
  // keep_spans: for a trace, keep single spans until there are about so many (each takes 24 bytes).
  // Passes that begin later are in the sums alone.
  explicit PassProfile(int n_threads, int64_t keep_spans = 0);

  // ---- by the executor ----
  // Says that what follows does not follow upon the passes so far: the time between does not count.
  void Resume() { gpu_end_ns_.reset(); }
  // Called by the thread that runs the pass, before the others start and after they have ended.
  void BeginPass();
  void EndPass(int64_t n_tokens);
  // Adds the spans of the pass on the GPU, ascending.
  void AddGpuPass(std::span<const PassSpan> spans);
  void AddTraffic(const BusTraffic& traffic) { traffic_ += traffic; }
  PassTimer* timer(int thread) { return &timers_[static_cast<size_t>(thread)]; }

  // ---- what was measured ----
  int n_threads() const { return static_cast<int>(timers_.size()); }
  int64_t passes() const { return n_passes_; }
  int64_t tokens() const { return n_tokens_; }
  bool has_gpu() const { return has_gpu_; }
  const PassTimes& thread_times(int thread) const {
    return timers_[static_cast<size_t>(thread)].times();
  }
  const PassTimes& gpu_times() const { return gpu_times_; }
  // Returns the time between the end of a pass on the GPU and the start of the next: its results
  // cross the bus, the host samples and launches.
  int64_t gpu_between_ns() const { return gpu_between_ns_; }
  // Returns the share, 0 to 1, of the time from the first pass's start to the last one's end in
  // which the GPU waited for the slow tier or had no pass to do.
  double gpu_idle_share() const;
  // Returns the share, 0 to 1, of all threads' time within the passes in which they waited for the
  // GPU's x or for the end of the pass (not: for each other at a barrier).
  double cpu_idle_share() const;
  const BusTraffic& traffic() const { return traffic_; }

  // ---- single spans, as far as kept ----
  struct Pass {
    int64_t begin_ns;
    int64_t end_ns;
    int64_t n_tokens;
  };
  const std::vector<Pass>& kept_passes() const { return kept_passes_; }
  const std::vector<PassSpan>& thread_spans(int thread) const {
    return timers_[static_cast<size_t>(thread)].spans();
  }
  const std::vector<PassSpan>& gpu_spans() const { return gpu_spans_; }

 private:
  int64_t CountSpans() const;

  int64_t keep_spans_;
  bool keeping_ = false;  // whether the running pass's spans are kept
  int64_t begin_ns_ = 0;
  int64_t n_passes_ = 0;
  int64_t n_tokens_ = 0;
  std::vector<PassTimer> timers_;  // (n_threads)
  bool has_gpu_ = false;
  PassTimes gpu_times_{};
  int64_t gpu_between_ns_ = 0;
  std::optional<int64_t> gpu_end_ns_;  // end of the pass before
  BusTraffic traffic_;
  std::vector<Pass> kept_passes_;
  std::vector<PassSpan> gpu_spans_;
};

}  // namespace thermocline
