// Times a kernel beside plain reads, and reports the two.
#pragma once

#include <benchmark/benchmark.h>

#include <vector>

namespace thermocline {

// Rates in bytes per second, sample by sample. A roof sample is taken right after each kernel
// sample, since machines that are shared change from moment to moment; the ratio of the medians is
// what holds.
struct Rates {
  std::vector<double> kernel;
  std::vector<double> roof;
};

// Returns the bytes per second of one plain read of 48 MiB. What it reads is not what kernels read,
// so neither leaves the other anything in a cache.
double RoofSample(int n_threads);

// Sets the counters best_GBs, p50_GBs, roof_GBs, best_roof and p50_roof.
void ReportRates(Rates rates, benchmark::State* state);

// Ends the program, as a kernel whose result is wrong has no speed.
[[noreturn]] void WrongResult(const char* kernel, double got, double reference);

}  // namespace thermocline
