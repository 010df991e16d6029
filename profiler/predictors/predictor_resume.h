// Lets a build of a predictor that was stopped go on with the layers that are missing. What is
// finished lies in a predictor file of fewer layers, beside the settings that it was built with.
#pragma once

#include <string>

#include "profiler/predictors/predictor_build.h"

namespace thermocline {

// Where the finished layers lie while `output_path` is being built.
std::string UnfinishedPath(const std::string& output_path);

// Returns everything that a layer's predictor depends on, in words: the model, the text's tokens
// and the options. The number of threads is left out: a build may go on with another, and then
// differs by the order of summation.
std::string BuildSettings(const OpenedModel& model, const PredictorTexts& texts,
                          const PredictorOptions& options);

// Reads the finished layers in `path`; none where there is no such file. Throws Error for a file of
// other settings, with both.
PredictorFile ReadUnfinished(const std::string& path, const std::string& settings);

}  // namespace thermocline
