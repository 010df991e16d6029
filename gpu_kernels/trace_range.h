// A named stretch of host time that profilers of the GPU show (NVTX; Nsight Systems), such as a
// step of a layer. Costs next to nothing while no profiler listens. Ranges of a thread nest.
#pragma once

namespace thermocline {

class TraceRange {
 public:
  explicit TraceRange(const char* name);
  ~TraceRange();
  TraceRange(const TraceRange&) = delete;
  TraceRange& operator=(const TraceRange&) = delete;
};

}  // namespace thermocline
