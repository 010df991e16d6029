// What thresholds cost, for `profile --thresholds`.
#pragma once

#include <string>
#include <vector>

#include "profiler/thresholds/calibrate_thresholds.h"
#include "profiler/thresholds/channel_skew.h"

namespace thermocline {

// Empty where nothing was scored. thresholds: null where there are none.
std::string ThresholdTable(const std::vector<ThresholdScore>& scores,
                           const ModelThresholds* thresholds);

// How unequally often channels are kept; empty where that was not measured.
std::string SkewTable(const std::vector<ChannelSkew>& skews);

}  // namespace thermocline
