// Predicted against measured: synthetic models of several shapes and types are written, run in
// several ways, and each way's time is compared with what the cost model said before.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "predictor/sparse_mode.h"
#include "runtime/core/dtype.h"
#include "runtime/core/progress.h"
#include "runtime/rates/machine_rates.h"

namespace thermocline {

struct ValidationRow {
  std::string shape = {};  // layers x d_model x d_ff
  DType dtype = DType::kF32;
  double hot_share = -1;  // of every layer's neurons; below 0: without a placement
  int n_threads = 1;
  SparseMode mode = SparseMode::kDense;
  int64_t rows = 1;
  bool prompt = false;
  double predicted_ms = 0;  // per token, by the rates as they are
  double measured_ms = 0;   // the median of several passes, on average over the rounds
  double spread = 1;        // their 90th over their 10th percentile
  // What plain reads with these threads gave before and behind the passes, over what they gave when
  // the rates were measured; and what is predicted for such a memory.
  double memory_share = 1;
  double predicted_then_ms = 0;

  double error() const { return predicted_ms / measured_ms - 1; }
  double error_then() const { return predicted_then_ms / measured_ms - 1; }
};

struct ValidationOptions {
  std::string folder;  // where the models go, of some hundred MiB each; they are removed
  int n_threads = 0;
  ProgressFn progress;
};

// Returns a row per way. Rates that the models need and `rates` lacks are measured before. Throws
// Error, Interrupted.
std::vector<ValidationRow> ValidateCosts(MachineRates rates, const ValidationOptions& options);

}  // namespace thermocline
