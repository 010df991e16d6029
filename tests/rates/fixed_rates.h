// Rates that are made up, for tests: of this machine by name, the same on every machine.
#pragma once

#include "cpu_kernels/kernels.h"
#include "runtime/rates/machine_rates.h"

namespace thermocline {

// Lengths of rows, of which the small models of tests have some.
inline constexpr int64_t kFixedCols[] = {32, 48, 64, 96, 128, 256, 4096};

// A host of 1 to 8 threads whose threads read 10 GB/s each, up to 40 GB/s, and a GPU that reads
// ten times that where one is asked for.
inline MachineRates FixedRates(bool gpu = false) {
  MachineRates rates;
  rates.machine = ThisMachine();
  rates.measured_at_s = 1700000000;
  HostRates& host = rates.host;
  host.thread_counts = {1, 2, 4, 8};
  host.read_bytes_per_s = {10e9, 20e9, 40e9, 40e9};
  host.attend_bytes_per_s = {8e9, 16e9, 32e9, 32e9};
  host.op_us = {1, 1, 1.5, 2};
  host.wake_us = {1, 5, 6, 8};
  host.handover_us = {0.1, 2, 3, 4};
  const auto type = [](DType dtype, int64_t cols, const std::vector<double>& bytes_per_s) {
    const double bytes_per_weight =
        static_cast<double>(RowBytes(dtype, kSuperBlock)) / static_cast<double>(kSuperBlock);
    TypeRates of_type{.key = {dtype, cols}};
    for (const double rate : bytes_per_s) {
      const double weights = rate / bytes_per_weight;
      for (const int64_t rows : kRateRows) {
        of_type.linear_weights_per_s.push_back(weights / (1 + 0.05 * static_cast<double>(rows)));
      }
      for (const int64_t rows : kRateRows) {
        of_type.ffn_weights_per_s.push_back(weights / (1 + 0.06 * static_cast<double>(rows)));
      }
      of_type.cached_weights_per_s.push_back(4 * weights);
      of_type.sum_weights_per_s.push_back(0.9 * weights);
    }
    return of_type;
  };
  for (const DType dtype : kWeightDTypes) {
    for (const int64_t cols : kFixedCols) {
      host.types.push_back(type(dtype, cols, host.read_bytes_per_s));
    }
  }
  host.gather_row_bytes = {512, 4096};
  host.gather_density = {0.1, 0.5, 1};
  host.linear_gather = {0.5, 0.7, 1, 0.8, 0.9, 1};
  host.sum_gather = {0.6, 0.8, 1, 0.9, 0.95, 1};
  if (!gpu) return rates;
  rates.gpu = GpuRates{.read_bytes_per_s = 400e9,
                       .to_gpu_bytes_per_s = 12e9,
                       .from_gpu_bytes_per_s = 12e9,
                       .op_us = 2,
                       .handover_us = 10,
                       .types = {}};
  for (const DType dtype : kWeightDTypes) {
    rates.gpu->types.push_back(type(dtype, 4096, {400e9}));
  }
  return rates;
}

}  // namespace thermocline
