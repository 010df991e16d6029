// Lays a model out for thresholds: the matrices whose inputs they cut are stored by column, so that
// a channel that is skipped is a run of bytes that is not read.
#pragma once

#include <string>

#include "runtime/convert/pack_model.h"

namespace thermocline {

struct PackColumnsOptions {
  std::optional<TypeRule> rule;  // absent: types as `--columns` takes them while loading
  int n_threads = 1;
  ProgressFn progress;
};

// Writes q, k, v, o, gate and up with a row per channel of their input, and down with one per
// neuron, under their names. Weights of a quantised source are rounded once more; the changes say
// by how much. `output` appears only when it is complete. One matrix is held in memory. Throws
// Error for a model that is packed already, and for families that run without thresholds.
PackReport PackColumns(const std::string& input, const std::string& output,
                       const PackColumnsOptions& options);

}  // namespace thermocline
