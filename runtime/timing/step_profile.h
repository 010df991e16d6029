// Where the time of steps goes: on every thread of the team, and on a fast tier that works behind
// the host; and what crossed the bus. Behind `bench` and --trace. The executor fills it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "runtime/timing/bus_traffic.h"
#include "runtime/timing/step_timer.h"

namespace thermocline {

class StepProfile {
 public:
  // keep_spans: for a trace, keep single spans until there are about so many (each takes 24 bytes);
  // steps that begin later are in the sums alone.
  explicit StepProfile(int n_threads, int64_t keep_spans = 0);

  // ---- by the executor ----
  // What follows does not follow upon the steps so far: the time between does not count.
  void Resume() { gpu_end_ns_.reset(); }
  // By the thread that runs the step, before the others start and after they have ended.
  void BeginStep();
  void EndStep(int64_t n_tokens);
  // The spans of the step on the GPU, ascending.
  void AddGpuStep(std::span<const StepSpan> spans);
  void AddTraffic(const BusTraffic& traffic) { traffic_ += traffic; }
  StepTimer* timer(int thread) { return &timers_[static_cast<size_t>(thread)]; }

  // ---- what was measured ----
  int n_threads() const { return static_cast<int>(timers_.size()); }
  int64_t steps() const { return n_steps_; }
  int64_t tokens() const { return n_tokens_; }
  bool has_gpu() const { return has_gpu_; }
  const StepTimes& thread_times(int thread) const {
    return timers_[static_cast<size_t>(thread)].times();
  }
  const StepTimes& gpu_times() const { return gpu_times_; }
  // Between the end of a step on the GPU and the start of the next: its results cross the bus, the
  // host samples and launches.
  int64_t gpu_between_ns() const { return gpu_between_ns_; }
  // Of the time from the first step's start to the last one's end, the share in which the GPU
  // waited for the slow tier or had no step to do. 0 to 1.
  double gpu_idle_share() const;
  // Of all threads' time within the steps, the share in which they waited for the GPU's x or for
  // the end of the step (not: for each other at a barrier). 0 to 1.
  double cpu_idle_share() const;
  const BusTraffic& traffic() const { return traffic_; }

  // ---- single spans, as far as kept ----
  struct Step {
    int64_t begin_ns;
    int64_t end_ns;
    int64_t n_tokens;
  };
  const std::vector<Step>& kept_steps() const { return kept_steps_; }
  const std::vector<StepSpan>& thread_spans(int thread) const {
    return timers_[static_cast<size_t>(thread)].spans();
  }
  const std::vector<StepSpan>& gpu_spans() const { return gpu_spans_; }

 private:
  int64_t CountSpans() const;

  int64_t keep_spans_;
  bool keeping_ = false;  // in the running step
  int64_t begin_ns_ = 0;
  int64_t n_steps_ = 0;
  int64_t n_tokens_ = 0;
  std::vector<StepTimer> timers_;  // (n_threads)
  bool has_gpu_ = false;
  StepTimes gpu_times_{};
  int64_t gpu_between_ns_ = 0;
  std::optional<int64_t> gpu_end_ns_;  // of the step before
  BusTraffic traffic_;
  std::vector<Step> kept_steps_;
  std::vector<StepSpan> gpu_spans_;
};

}  // namespace thermocline
