// Thresholds of synthetic models, which have no vocabulary that a text could be read with.
#pragma once

#include <string>

#include "profiler/activations/profile_stats.h"
#include "runtime/core/progress.h"
#include "runtime/synth/synth.h"

namespace thermocline {

// Returns what random tokens do in a model, with thresholds that are the same share of every
// matrix. options: those that it was written with. Throws Interrupted.
ProfileStats MeasureThresholds(const std::string& model_path, const SynthOptions& options,
                               const ProgressFn& progress);

}  // namespace thermocline
