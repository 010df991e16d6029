// What a predictor does per layer, as a table.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "runtime/placement/predictor_file.h"

namespace thermocline {

// Returns one line per layer and one of means: recall, predicted and true density, bytes per token,
// at the operating point that a wanted recall chooses.
std::string PredictorTable(const PredictorFile& file, double wanted_recall);

// Means over the layers (recall weighted by how much is active), and sums of bytes.
struct PredictorTotals {
  double recall = 0;
  double density = 0;
  double true_density = 0;
  uint64_t bytes_per_token = 0;
};
PredictorTotals TotalsAt(const PredictorFile& file, double wanted_recall);

// Adds the flag that chooses the type of a predictor's factors.
CLI::Option* AddFactorTypeOption(CLI::App& verb, const std::string& flag, DType* dtype);

}  // namespace thermocline
