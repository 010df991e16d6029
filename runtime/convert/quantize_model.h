// A model in another type of weights.
#pragma once

#include <string>
#include <vector>

#include "runtime/convert/model_writer.h"

namespace thermocline {

struct QuantizeOptions {
  TypeRule rule;
  int n_threads = 1;
  ProgressFn progress;
};

// Reads the GGUF file (or split set) `input`, writes `output` as one file; returns a line per
// tensor. Memory: a piece of one tensor. `output` appears only when it is complete.
std::vector<TensorChange> QuantizeModel(const std::string& input, const std::string& output,
                                        const QuantizeOptions& options);

}  // namespace thermocline
