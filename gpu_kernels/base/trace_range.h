// A named stretch of host time that profilers of the GPU show (NVTX; Nsight Systems), such as a
// op of a layer. Costs next to nothing while no profiler listens. Ranges of a thread nest.
#pragma once

#include <cstdint>

namespace thermocline {

class TraceRange {
 public:
  static constexpr int64_t kNoNumber = -1;
  // name: a literal. number: shown beside it, such as the layer.
  explicit TraceRange(const char* name, int64_t number = kNoNumber);
  ~TraceRange();
  TraceRange(const TraceRange&) = delete;
  TraceRange& operator=(const TraceRange&) = delete;
};

}  // namespace thermocline
