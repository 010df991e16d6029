// Times matvec, accumulate_rows and accumulate_channels over rows that are a share of a matrix, in
// runs of neighbours. One iteration takes fresh random rows out of a part of the matrix that no
// cache holds any more.
#include "tools/kernel_bench/sweeps.h"

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "runtime/core/aligned_buffer.h"
#include "runtime/rates/read_bandwidth.h"
#include "runtime/threads/processors.h"
#include "tools/kernel_bench/bench_weights.h"
#include "tools/kernel_bench/rates.h"

namespace thermocline {
namespace {

constexpr uint64_t kWeightBytes = 768ULL << 20;
// Bytes of the rows touched per iteration: enough to time, and of a part of the matrix larger than
// caches.
constexpr int64_t kSpanBytes = 48LL << 20;
constexpr int64_t kLeastTouchedBytes = 4LL << 20;
constexpr int kIterations = 25;
constexpr float kH = 0.5F;

enum class RowKernel : uint8_t { kMatvec, kAccumulate, kChannels };

struct RowCase {
  RowKernel kernel;
  DType dtype;
  int percent;
  int64_t run;
  int64_t cols;
  int n_threads;

  std::string Name() const {
    constexpr const char* kNames[] = {"matvec", "accumulate", "channels"};
    return fmt::format("sweep/{}/{}/density:{}/run:{}/cols:{}/threads:{}",
                       kNames[static_cast<size_t>(kernel)], DTypeName(dtype), percent, run, cols,
                       n_threads);
  }
};

// Draws rows of the matrix window by window, each `percent` of a window in runs of `run` rows.
class RowDraw {
 public:
  RowDraw(const RowCase& bench, const BenchWeights& weights) : bench_(bench) {
    const int64_t touched = std::max(kLeastTouchedBytes, kSpanBytes * bench.percent / 100);
    const int64_t rows = touched * 100 / bench.percent / weights.stride_bytes();
    window_ = std::max(bench.run, std::min(rows, weights.n_rows()) / bench.run * bench.run);
    n_windows_ = weights.n_rows() / window_;
    rows_.reserve(static_cast<size_t>(window_));
  }

  const std::vector<int32_t>& Next() {
    const int64_t first = next_++ % n_windows_ * window_;
    rows_.clear();
    std::bernoulli_distribution active(bench_.percent / 100.0);
    for (int64_t r = first; r < first + window_; r += bench_.run) {
      if (!active(rng_)) continue;
      for (int64_t i = 0; i < bench_.run; ++i) rows_.push_back(static_cast<int32_t>(r + i));
    }
    if (rows_.empty()) rows_.push_back(static_cast<int32_t>(first));
    return rows_;
  }
  int64_t window() const { return window_; }

 private:
  RowCase bench_;
  int64_t window_ = 0;
  int64_t n_windows_ = 0;
  int64_t next_ = 0;
  std::mt19937 rng_{2};
  std::vector<int32_t> rows_;
};

// Runs the kernel. Threads share the list out, and accumulate into sums of their own, as the
// runtime does.
class RowRun {
 public:
  RowRun(const RowCase& bench, const BenchWeights& weights, int64_t max_rows)
      : bench_(bench),
        weights_(weights),
        h_(static_cast<size_t>(max_rows), kH),
        out_(
            static_cast<uint64_t>(std::max(max_rows, bench.cols * bench.n_threads)) * sizeof(float),
            "a result of the bench") {}

  double Seconds(const std::vector<int32_t>& rows) {
    const KernelTable& kernels = CpuKernels();
    const auto n = static_cast<int64_t>(rows.size());
    return TimeOnTeam(bench_.n_threads, [&](int thread, int n_threads) {
      const int64_t begin = n * thread / n_threads;
      const int64_t end = n * (thread + 1) / n_threads;
      if (bench_.kernel != RowKernel::kMatvec) {
        const auto add = bench_.kernel == RowKernel::kChannels ? kernels.accumulate_channels
                                                               : kernels.accumulate_rows;
        add(bench_.dtype, weights_.data(), weights_.stride_bytes(), h_.data(), rows.data() + begin,
            end - begin, 0, bench_.cols, out_.as<float>() + thread * bench_.cols);
      } else {
        kernels.matvec(bench_.dtype, weights_.data(), weights_.stride_bytes(), bench_.cols,
                       weights_.prepared(), rows.data(), begin, end, out_.as<float>());
      }
    });
  }

  // Checks once, after the start, what Seconds(rows) computed.
  void Verify(const std::vector<int32_t>& rows) {
    bench_.kernel == RowKernel::kMatvec ? VerifyRows(rows) : VerifySums(rows);
  }

 private:
  // A row has the bits it has in a plain walk over the matrix, which was checked in double.
  void VerifyRows(const std::vector<int32_t>& rows) {
    std::vector<float> plain(kDistinctRows);
    CpuKernels().matvec(bench_.dtype, weights_.data(), weights_.stride_bytes(), bench_.cols,
                        weights_.prepared(), nullptr, 0, kDistinctRows, plain.data());
    for (size_t i = 0; i < rows.size(); ++i) {
      const float expected = plain[static_cast<size_t>(rows[i] % kDistinctRows)];
      const float found = out_.as<float>()[i];
      if (found != expected) WrongResult(bench_.Name().c_str(), found, expected);
    }
  }

  void VerifySums(const std::vector<int32_t>& rows) {
    std::vector<double> times(kDistinctRows, 0.0);
    for (const int32_t row : rows) times[static_cast<size_t>(row % kDistinctRows)] += kH;
    for (int64_t c = 0; c < bench_.cols; ++c) {
      double found = 0;
      for (int t = 0; t < bench_.n_threads; ++t) found += out_.as<float>()[t * bench_.cols + c];
      double reference = 0;
      double magnitudes = 0;
      for (int64_t r = 0; r < kDistinctRows; ++r) {
        const double term =
            times[static_cast<size_t>(r)] * weights_.distinct(r)[static_cast<size_t>(c)];
        reference += term;
        magnitudes += std::fabs(term);
      }
      // Channels may be added with factors of 8 bits: half a step of the largest in each block.
      const double step = bench_.kernel == RowKernel::kChannels ? 1.0 / 64 : 0;
      const double allowed = (0x1p-24 * static_cast<double>(rows.size() + 8) + step) * magnitudes;
      if (!(std::fabs(found - reference) <= allowed)) {
        WrongResult(bench_.Name().c_str(), found, reference);
      }
    }
  }

  const RowCase bench_;
  const BenchWeights& weights_;
  const std::vector<float> h_;
  AlignedBuffer out_;
};

void RunRows(benchmark::State& state, const RowCase& bench) {
  const BenchWeights& weights = SharedBenchWeights(bench.dtype, bench.cols, kWeightBytes);
  RowDraw draw(bench, weights);
  RowRun run(bench, weights, draw.window());
  const PinnedTeam pinned(bench.n_threads);
  {
    const std::vector<int32_t> rows = draw.Next();
    run.Seconds(rows);
    run.Verify(rows);
  }
  Rates rates;
  for (auto _ : state) {
    const std::vector<int32_t>& rows = draw.Next();
    const double seconds = run.Seconds(rows);
    state.SetIterationTime(seconds);
    rates.kernel.push_back(static_cast<double>(rows.size()) *
                           static_cast<double>(weights.stride_bytes()) / seconds);
    rates.roof.push_back(RoofSample(bench.n_threads));
  }
  ReportRates(std::move(rates), &state);
}

// Whether one looks at the case first: all densities and runs on rows of 4096 with all threads, row
// sizes at 10 %, and threads at 10 and at 100 %.
bool IsUsual(const RowCase& bench, int max_threads) {
  if (bench.cols == 4096 && bench.n_threads == max_threads) return true;
  if (bench.n_threads == max_threads) {
    return bench.percent == 100 || (bench.percent == 10 && (bench.run == 1 || bench.run == 32));
  }
  return bench.cols == 4096 && (bench.percent == 100 || (bench.percent == 10 && bench.run == 1));
}

}  // namespace

void RegisterRowSweeps(bool all) {
  const int max_threads = DefaultThreadCount();
  const auto add = [&](const RowCase& bench) {
    if (!all && !IsUsual(bench, max_threads)) return;
    benchmark::RegisterBenchmark(bench.Name().c_str(), RunRows, bench)
        ->UseManualTime()
        ->Unit(benchmark::kMicrosecond)
        ->Iterations(kIterations);
  };
  for (const DType dtype : {DType::kQ4_0, DType::kQ8_0, DType::kF16}) {
    for (const int64_t cols : {1024, 2048, 4096, 8192, 11008}) {
      for (const RowKernel kernel :
           {RowKernel::kMatvec, RowKernel::kAccumulate, RowKernel::kChannels}) {
        for (int n_threads = 1; n_threads <= max_threads; ++n_threads) {
          for (const int percent : {1, 2, 5, 10, 20, 50}) {
            for (const int64_t run : {1, 4, 32, 64}) {
              add({kernel, dtype, percent, run, cols, n_threads});
            }
          }
          // All rows are one run, however they were drawn.
          add({kernel, dtype, 100, 64, cols, n_threads});
        }
      }
    }
  }
}

}  // namespace thermocline
