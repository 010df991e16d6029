#include "tools/kernel_bench/rates.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "runtime/core/aligned_buffer.h"
#include "runtime/rates/read_bandwidth.h"

namespace thermocline {
namespace {

constexpr uint64_t kSampleBytes = 48ULL << 20;
constexpr uint64_t kRoofBytes = 4 * kSampleBytes;

double Median(const std::vector<double>& ascending) { return ascending[ascending.size() / 2]; }

}  // namespace

double RoofSample(int n_threads) {
  static AlignedBuffer memory = [] {
    AlignedBuffer buffer(kRoofBytes, "measuring read bandwidth");
    std::memset(buffer.data(), 1, kRoofBytes);  // untouched pages would all be one page of zeros
    return buffer;
  }();
  static uint64_t next = 0;
  const uint64_t at = next;
  next = (next + kSampleBytes) % kRoofBytes;
  return TimeStreamingRead(n_threads, memory.bytes() + at, kSampleBytes);
}

void ReportRates(Rates rates, benchmark::State* state) {
  std::sort(rates.kernel.begin(), rates.kernel.end());
  std::sort(rates.roof.begin(), rates.roof.end());
  state->counters["best_GBs"] = rates.kernel.back() / 1e9;
  state->counters["p50_GBs"] = Median(rates.kernel) / 1e9;
  state->counters["roof_GBs"] = Median(rates.roof) / 1e9;
  state->counters["best_roof"] = rates.kernel.back() / rates.roof.back();
  state->counters["p50_roof"] = Median(rates.kernel) / Median(rates.roof);
}

void WrongResult(const char* kernel, double got, double reference) {
  fmt::print(stderr, "kernel_bench: {} is wrong: {} instead of {}\n", kernel, got, reference);
  std::exit(1);
}

}  // namespace thermocline
