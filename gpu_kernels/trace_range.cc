#include "gpu_kernels/trace_range.h"

#ifndef THERMOCLINE_GPU_EMULATED
#include <nvtx3/nvToolsExt.h>
#endif

namespace thermocline {

#ifdef THERMOCLINE_GPU_EMULATED
TraceRange::TraceRange(const char* /*name*/) {}
TraceRange::~TraceRange() = default;
#else
TraceRange::TraceRange(const char* name) { nvtxRangePushA(name); }
TraceRange::~TraceRange() { nvtxRangePop(); }
#endif

}  // namespace thermocline
