// What thresholds cost, for `profile --thresholds`.
#pragma once

#include <string>
#include <vector>

#include "profiler/thresholds/calibrate_thresholds.h"

namespace thermocline {

// Empty where nothing was scored. thresholds: null where there are none.
std::string ThresholdTable(const std::vector<ThresholdScore>& scores,
                           const ModelThresholds* thresholds);

}  // namespace thermocline
