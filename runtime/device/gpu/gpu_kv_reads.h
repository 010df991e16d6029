// What attention on a GPU reads of the KV cache (DeviceOps::ReadsOf).
#pragma once

#include "runtime/device/ops.h"

namespace thermocline {

// many: by GpuAttendMany, else by GpuAttendFew.
KvReads GpuKvReads(const AttentionOp& op, bool many);

}  // namespace thermocline
