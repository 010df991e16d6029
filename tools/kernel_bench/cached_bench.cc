// Times matvec, accumulate_rows and accumulate_channels over rows that stay in L2, by one thread,
// which shows what instructions allow.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "runtime/core/aligned_buffer.h"
#include "runtime/rates/read_bandwidth.h"
#include "tools/kernel_bench/bench_weights.h"
#include "tools/kernel_bench/sweeps.h"

namespace thermocline {
namespace {

constexpr int64_t kCols = 4096;
constexpr int64_t kCachedBytes = 256 << 10;
constexpr int kIterations = 100;
constexpr int kCallsPerSample = 8;

struct CachedCase {
  enum class Kernel : uint8_t { kMatvec, kAccumulate, kChannels } kernel;
  DType dtype;
};

void RunCached(benchmark::State& state, const CachedCase& bench) {
  using Clock = std::chrono::steady_clock;
  const BenchWeights& weights = SharedBenchWeights(bench.dtype, kCols, kCachedBytes);
  const std::vector<float> h(static_cast<size_t>(weights.n_rows()), 0.5F);
  AlignedBuffer out(static_cast<uint64_t>(std::max(weights.n_rows(), kCols)) * sizeof(float),
                    "a result of the bench");
  const KernelTable& kernels = CpuKernels();
  const PinnedTeam pinned(1);
  std::vector<double> rates;
  for (auto _ : state) {
    const Clock::time_point start = Clock::now();
    for (int i = 0; i < kCallsPerSample; ++i) {
      if (bench.kernel != CachedCase::Kernel::kMatvec) {
        const auto add = bench.kernel == CachedCase::Kernel::kChannels ? kernels.accumulate_channels
                                                                       : kernels.accumulate_rows;
        add(bench.dtype, weights.data(), weights.stride_bytes(), h.data(), nullptr,
            weights.n_rows(), 0, kCols, out.as<float>());
      } else {
        kernels.matvec(bench.dtype, weights.data(), weights.stride_bytes(), kCols,
                       weights.prepared(), nullptr, 0, weights.n_rows(), out.as<float>());
      }
      benchmark::ClobberMemory();
    }
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    state.SetIterationTime(seconds / kCallsPerSample);
    rates.push_back(static_cast<double>(weights.n_rows() * weights.stride_bytes()) *
                    kCallsPerSample / seconds);
  }
  std::sort(rates.begin(), rates.end());
  state.counters["best_GBs"] = rates.back() / 1e9;
  state.counters["p50_GBs"] = rates[rates.size() / 2] / 1e9;
}

}  // namespace

void RegisterCached() {
  for (const DType dtype : kWeightDTypes) {
    using Kernel = CachedCase::Kernel;
    for (const auto& [kernel, label] : {std::pair{Kernel::kMatvec, "matvec"},
                                        {Kernel::kAccumulate, "accumulate"},
                                        {Kernel::kChannels, "channels"}}) {
      const CachedCase bench = {kernel, dtype};
      const std::string name = fmt::format("cached/{}/{}", label, DTypeName(dtype));
      benchmark::RegisterBenchmark(name.c_str(), RunCached, bench)
          ->UseManualTime()
          ->Unit(benchmark::kMicrosecond)
          ->Iterations(kIterations);
    }
  }
}

}  // namespace thermocline
