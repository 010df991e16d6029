#include "gpu_kernels/trace_range.h"

namespace thermocline {

TraceRange::TraceRange(const char* /*name*/, int64_t /*number*/) {}
TraceRange::~TraceRange() = default;

}  // namespace thermocline
