// Times the CPU kernels against the machine's read bandwidth, and where there is a GPU its kernels
// against its own (tools/kernel_bench/gpu_cases.h). Every kernel is checked before it is
// timed. One iteration is one segment of weights that is not in any cache, followed by a plain
// streaming read of as many bytes elsewhere, so that both see the same machine. The counters are
//   best_GBs, p50_GBs    bytes of weights touched per second, of the best and of the median segment
//   roof_GBs             the median of the plain reads
//   best_roof, p50_roof  best over best, median over median
// On a machine with other work the best says what the kernel can do and the median what it got.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "runtime/core/aligned_buffer.h"
#include "runtime/rates/read_bandwidth.h"
#include "tools/kernel_bench/bench_weights.h"
#include "tools/kernel_bench/gemm_cases.h"
#include "tools/kernel_bench/gpu_cases.h"
#include "tools/kernel_bench/rates.h"
#include "tools/kernel_bench/sweeps.h"
#include "tools/kernel_bench/tokens_cases.h"

namespace thermocline {
namespace {

constexpr int64_t kCols = 4096;
constexpr uint64_t kWeightBytes = 768ULL << 20;
constexpr int64_t kSegmentBytes = 48LL << 20;
constexpr double kDensity = 0.1;
constexpr int kMaxThreads = 2;

// Returns every row, or about one row in ten as runs of `run` neighbours.
std::vector<int32_t> ListRows(int64_t n_rows, int64_t run) {
  std::vector<int32_t> rows;
  std::mt19937 rng(2);
  std::bernoulli_distribution active(kDensity);
  for (int64_t r = 0; r + run <= n_rows; r += run) {
    if (!active(rng)) continue;
    for (int64_t i = 0; i < run; ++i) rows.push_back(static_cast<int32_t>(r + i));
  }
  return rows;
}

struct Case {
  std::string kernel;  // "matvec" or "accumulate"
  DType dtype;
  int64_t run;  // 0: all rows, else a list of 10 % of them in runs of this length
  int n_threads;
};

// Returns the part of [0, n) that a thread takes, cut at multiples of `unit`.
std::pair<int64_t, int64_t> ShareOf(int64_t n, int64_t unit, int thread, int n_threads) {
  const int64_t units = n / unit;
  return {units * thread / n_threads * unit, units * (thread + 1) / n_threads * unit};
}

double RunSegment(const Case& bench, const BenchWeights& weights, const int32_t* rows,
                  int64_t first, int64_t n, const std::vector<float>& h, float* y) {
  const KernelTable& kernels = CpuKernels();
  const int64_t stride = weights.stride_bytes();
  return TimeOnTeam(bench.n_threads, [&](int thread, int n_threads) {
    if (bench.kernel == "matvec") {
      const auto [begin, end] = ShareOf(n, 1, thread, n_threads);
      kernels.matvec(bench.dtype, weights.data(), stride, kCols, weights.prepared(), rows,
                     first + begin, first + end, y);
    } else {
      const auto [begin, end] = ShareOf(kCols, kQuantBlock, thread, n_threads);
      const std::byte* base = rows == nullptr ? weights.data() + first * stride : weights.data();
      kernels.accumulate_rows(bench.dtype, base, stride, h.data(),
                              rows == nullptr ? nullptr : rows + first, n, begin, end, y);
    }
  });
}

void RunCase(benchmark::State& state, const Case& bench) {
  const BenchWeights& weights = SharedBenchWeights(bench.dtype, kCols, kWeightBytes);
  std::vector<int32_t> list;
  if (bench.run > 0) list = ListRows(weights.n_rows(), bench.run);
  const int32_t* rows = bench.run > 0 ? list.data() : nullptr;
  const int64_t total = bench.run > 0 ? static_cast<int64_t>(list.size()) : weights.n_rows();
  // A sparse segment spans 48 MiB of the matrix, too, or neighbouring passes would find it in
  // cache.
  const double touched = static_cast<double>(kSegmentBytes) * (bench.run > 0 ? kDensity : 1.0);
  const int64_t segment = std::min(total, static_cast<int64_t>(touched) / weights.stride_bytes());
  const auto segment_bytes = static_cast<double>(segment * weights.stride_bytes());
  const std::vector<float> h(static_cast<size_t>(segment), 0.5F);
  // y is aligned, or two threads with half the columns each would write one cache line.
  AlignedBuffer y(static_cast<uint64_t>(std::max(weights.n_rows(), kCols)) * sizeof(float),
                  "a result of the bench");
  const PinnedTeam pinned(bench.n_threads);
  Rates rates;
  int64_t first = 0;
  uint64_t roof_at = kWeightBytes / 2;
  for (auto _ : state) {
    const double seconds = RunSegment(bench, weights, rows, first, segment, h, y.as<float>());
    state.SetIterationTime(seconds);
    rates.kernel.push_back(segment_bytes / seconds);
    rates.roof.push_back(
        TimeStreamingRead(bench.n_threads, weights.data() + roof_at, kSegmentBytes));
    first = first + 2 * segment <= total ? first + segment : 0;
    roof_at = roof_at + 2 * kSegmentBytes <= weights.n_bytes() ? roof_at + kSegmentBytes : 0;
  }
  ReportRates(std::move(rates), &state);
}

void RegisterCases() {
  const std::pair<const char*, int64_t> kinds[] = {
      {"dense", 0}, {"scattered_10%", 1}, {"runs_of_32_10%", 32}};
  for (const DType dtype : kWeightDTypes) {
    for (const char* kernel : {"matvec", "accumulate"}) {
      for (const auto& [kind, run] : kinds) {
        for (int n_threads = 1; n_threads <= kMaxThreads; ++n_threads) {
          const Case bench = {kernel, dtype, run, n_threads};
          const std::string name =
              fmt::format("{}/{}/{}/threads:{}", kernel, DTypeName(dtype), kind, n_threads);
          benchmark::RegisterBenchmark(name.c_str(), RunCase, bench)
              ->UseManualTime()
              ->Unit(benchmark::kMicrosecond)
              ->Iterations(60);
        }
      }
    }
  }
}

}  // namespace
}  // namespace thermocline

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  // --all runs the whole matrix of the sweeps, instead of the part that is looked at first.
  const bool all = argc == 2 && std::string(argv[1]) == "--all";
  if (all) --argc;
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  thermocline::RegisterCases();
  thermocline::RegisterGemmCases(thermocline::kMaxThreads);
  thermocline::RegisterTokensCases(thermocline::kMaxThreads);
  thermocline::RegisterRowSweeps(all);
  thermocline::RegisterAttentionSweeps(all);
  thermocline::RegisterOps();
  thermocline::RegisterCached();
  thermocline::RegisterGpuCases();
  benchmark::AddCustomContext("kernels", std::string(thermocline::CpuKernels().features));
  benchmark::RunSpecifiedBenchmarks();
  thermocline::ReleaseGpuCases();
  benchmark::Shutdown();
  return 0;
}
