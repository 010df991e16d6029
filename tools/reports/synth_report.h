// What `synth` prints of what it measured.
#pragma once

#include <string>

#include "profiler/synthetic/synth_profile.h"
#include "runtime/placement/predictor_file.h"

namespace thermocline {

// Returns the activity asked for beside the one measured.
std::string ActivityTable(const ActivityTarget& target, const ActivityCheck& check);

// Returns recall and density of the gates' own factors, as means over the layers. path: where they
// were written.
std::string PredictorReport(const std::string& path, const PredictorFile& file);

}  // namespace thermocline
