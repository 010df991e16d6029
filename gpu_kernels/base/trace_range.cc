#include "gpu_kernels/base/trace_range.h"

#include <nvtx3/nvToolsExt.h>

namespace thermocline {

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

}  // namespace thermocline
