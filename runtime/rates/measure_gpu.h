// Measures a GPU as the executor uses it: ops enqueued on a queued device, kept and replayed.
#pragma once

#include <vector>

#include "runtime/rates/machine_rates.h"

namespace thermocline {

// REQUIRES: QueryGpuSupport() says there is one. Throws Error where its memory does not suffice.
GpuRates MeasureGpu(const std::vector<RateKey>& types);

}  // namespace thermocline
