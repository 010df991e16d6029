// Writes a model in another type of weights.
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

// Reads the GGUF file (or split set) `input` and writes `output` as one file. Returns a line per
// tensor. It holds a piece of one tensor in memory. `output` appears only when it is complete.
std::vector<TensorChange> QuantizeModel(const std::string& input, const std::string& output,
                                        const QuantizeOptions& options);

}  // namespace thermocline
