#include "gpu_kernels/trace_range.h"

#ifdef THERMOCLINE_GPU_EMULATED
#include "runtime/core/error.h"
#else
#include <nvtx3/nvToolsExt.h>
#endif

namespace thermocline {
#ifdef THERMOCLINE_GPU_EMULATED
// Nobody listens; a range that ends on another thread than it began on is a mistake there, too.
thread_local int n_open_ranges = 0;
TraceRange::TraceRange(const char* /*name*/, int64_t /*number*/) { ++n_open_ranges; }
TraceRange::~TraceRange() {
  --n_open_ranges;
  CHECK(n_open_ranges >= 0);
}
#else
TraceRange::TraceRange(const char* name, int64_t number) {
  nvtxEventAttributes_t attributes = {};
  attributes.version = NVTX_VERSION;
  attributes.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
  attributes.messageType = NVTX_MESSAGE_TYPE_ASCII;
  attributes.message.ascii = name;
  if (number != kNoNumber) {
    attributes.payloadType = NVTX_PAYLOAD_TYPE_INT64;
    attributes.payload.llValue = number;
  }
  nvtxRangePushEx(&attributes);
}
TraceRange::~TraceRange() { nvtxRangePop(); }
#endif
}  // namespace thermocline
