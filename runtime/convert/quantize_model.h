// Writes a model in another type of weights.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "runtime/convert/model_writer.h"

namespace thermocline {

// By a matrix's name, how much the squared error of each of its columns counts: (n_cols).
using ImportanceByName = std::map<std::string, std::vector<float>>;

struct QuantizeOptions {
  TypeRule rule;
  ImportanceByName importance = {};  // of the matrices that it names; else all weights count alike
  int n_threads = 1;
  ProgressFn progress;
};

// Reads the GGUF file (or split set) `input` and writes `output` as one file. Returns a line per
// tensor. It holds a piece of one tensor in memory. `output` appears only when it is complete.
std::vector<TensorChange> QuantizeModel(const std::string& input, const std::string& output,
                                        const QuantizeOptions& options);

}  // namespace thermocline
