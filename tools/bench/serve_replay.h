// The measurement behind `bench serve`: a load of requests against a scheduler in this process,
// each sent when it arrives.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "runtime/core/progress.h"
#include "runtime/schedule/scheduler.h"
#include "tools/bench/serve_trace.h"

namespace thermocline {

struct ServeBounds {
  // A request is served well where its first token comes within ttft_ms of its arrival, and no
  // other token is later than gap_ms behind the one before. 0: no bound.
  double ttft_ms = 0;
  double gap_ms = 0;
};

// The 50th, 90th and 99th percentile and the mean of a set of times.
struct TimesMs {
  double mean = 0;
  double p50 = 0;
  double p90 = 0;
  double p99 = 0;
  int64_t n = 0;
};
TimesMs PercentilesOf(std::vector<double> ms);

struct ServedText {
  EndReason reason = EndReason::kFailed;
  RunStats stats;
  double ttft_ms = 0;           // from its arrival
  double last_ms = 0;           // when it ended, from the beginning
  std::vector<double> gaps_ms;  // from each token to the next
};

struct ServeResult {
  int32_t n_slots = 0;
  std::vector<ServedText> texts;       // in the order of the trace
  double all_ms = 0;                   // from the first arrival to the last end
  std::optional<ScheduleStats> stats;  // of a scheduler in this process
  // Of those that were served.
  int64_t n_served = 0;
  int64_t n_well = 0;  // within the bounds
  int64_t generated_tokens = 0;
  TimesMs ttft;
  TimesMs gaps;
  double tokens_per_s = 0;  // generated
  double requests_per_s = 0;
  double well_per_s = 0;  // goodput
};

// Fills in what follows from the texts.
void SummariseServe(const ServeBounds& bounds, ServeResult* result);

// Replies are sampled greedily, and none ends before its max_tokens. Throws Interrupted on Ctrl-C.
// REQUIRES: every prompt and its reply fit into a context.
ServeResult ReplayServe(Engine& engine, const ScheduleOptions& options,
                        const std::vector<ServedRequest>& trace, const ServeBounds& bounds,
                        const ProgressFn& progress);

}  // namespace thermocline
