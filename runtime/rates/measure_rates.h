// Measures this machine: the kernels and the team of threads that passes use, on memory that no
// cache holds any more.
#pragma once

#include <vector>

#include "runtime/core/dtype.h"
#include "runtime/core/progress.h"
#include "runtime/rates/machine_rates.h"

namespace thermocline {

struct MeasureOptions {
  int n_threads = 0;           // the most that are timed; 0: one per physical core
  std::vector<RateKey> types;  // of weights that products are timed with
  bool every_count = true;     // 1, 2, 4, ... threads; else 1 and the most
  bool quick = false;          // fewer repetitions, less memory
  // A folder for a file of 64 MiB that is read past the page cache and removed; empty: storage is
  // not measured.
  std::string storage_folder;
  bool gpu = true;
  ProgressFn progress;
};

// The types that `calibrate` measures unless it is asked for others.
std::vector<RateKey> UsualRateTypes();

// Takes some seconds and some hundred MiB. Throws Error where the memory is not there, Interrupted.
MachineRates MeasureRates(const MeasureOptions& options);

// Adds the types that `rates` lacks, measured at its thread counts. Returns whether any were
// missing.
bool AddMissingTypes(const std::vector<RateKey>& types, bool quick, MachineRates* rates);

}  // namespace thermocline
