// Multiplies batches of tokens by a product by panels (what prefill runs) and by the row kernels
// once per token, in turn on weights that no cache holds. The counters are
//   gemm_Gops, rows_Gops  operations (two to a multiply-add) per second, of the median segment
//   gemm_GBs              bytes of weights per second that went through the panels
//   roof_Gops             what the multiply-add instruction alone reaches on as many threads, here
//                         and now
//   gemm_roof             gemm_Gops over roof_Gops
//   gain                  time by rows over time by panels: above 1, panels are the way to take
#include "tools/kernel_bench/gemm_cases.h"

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "runtime/core/checked_math.h"
#include "runtime/device/cpu/panel_gemm.h"
#include "runtime/rates/read_bandwidth.h"
#include "tools/kernel_bench/bench_weights.h"

namespace thermocline {
namespace {

constexpr int64_t kCols = 4096;
constexpr uint64_t kWeightBytes = 256ULL << 20;
constexpr double kSegmentMacs = 8e9;  // some tens of milliseconds
constexpr int64_t kSegmentBytes = 24LL << 20;
constexpr int64_t kRowsAtOnce = 64;  // rows that stay in cache while all tokens read them
constexpr int kIterations = 15;
constexpr int64_t kVerifiedRows = 70;
constexpr int64_t kRoofRounds = 2000000;

struct Case {
  DType dtype;
  int64_t n_tokens;
  int n_threads;
};

class GemmBench {
 public:
  GemmBench(const Case& bench, const BenchWeights& weights)
      : bench_(bench),
        kernels_(CpuKernels()),
        view_{weights.data(), bench.dtype, weights.n_rows(), kCols, weights.stride_bytes()},
        x_(static_cast<size_t>(bench.n_tokens * kCols)) {
    std::mt19937 rng(3);
    std::normal_distribution<float> normal;
    for (float& value : x_) value = normal(rng);
    const double macs_per_row = static_cast<double>(bench.n_tokens * kCols);
    rows_ = std::min({view_.rows, kSegmentBytes / view_.row_stride_bytes,
                      static_cast<int64_t>(kSegmentMacs / macs_per_row)});
    rows_ = AlignUp(rows_, kRowsAtOnce);
    macs_ = static_cast<double>(rows_) * macs_per_row;
    out_ = AlignedBuffer(static_cast<uint64_t>(bench.n_tokens * rows_) * sizeof(float),
                         "a result of the bench");
    input_ = AlignedBuffer(
        std::max<uint64_t>(64, PanelGemm::InputBytes(kernels_, bench.n_tokens, kCols)),
        "activations of the bench");
    for (int i = 0; i < bench.n_threads; ++i) {
      panels_.push_back(std::make_unique<PanelGemm>(kernels_, kCols));
      vectors_.emplace_back(static_cast<uint64_t>(bench.n_tokens * VectorBytes()),
                            "vectors of the bench");
    }
  }

  double macs() const { return macs_; }
  double bytes() const { return static_cast<double>(rows_ * view_.row_stride_bytes); }

  // Returns the seconds that the rows from `first` take by panels. The activations, which many
  // matrices share, are prepared before.
  double TimePanels(int64_t first) {
    const GemmInput input = PrepareInput();
    const TensorView segment = view_.SliceRows(first, first + rows_);
    return TimeOnTeam(bench_.n_threads, [&](int thread, int n_threads) {
      const int64_t panels = CeilDiv(rows_, kPanelRows);
      const int64_t end = panels * (thread + 1) / n_threads;
      for (int64_t p = panels * thread / n_threads; p < end; ++p) {
        const int64_t last = std::min((p + 1) * kPanelRows, rows_);
        panels_[static_cast<size_t>(thread)]->MultiplyRows(segment, p * kPanelRows, last, input,
                                                           out_.as<float>(), rows_,
                                                           PanelAhead(segment, last));
      }
    });
  }

  // Returns the seconds that the rows from `first` take by the row kernels, in groups that every
  // token reads while they are in cache.
  double TimeRows(int64_t first) {
    const VectorForm form = kernels_.vector_form(bench_.dtype);
    for (int64_t t = 0; t < bench_.n_tokens; ++t) {
      for (AlignedBuffer& vectors : vectors_) {
        kernels_.prepare(form, x_.data() + t * kCols, kCols, vectors.bytes() + t * VectorBytes());
      }
    }
    const TensorView segment = view_.SliceRows(first, first + rows_);
    return TimeOnTeam(bench_.n_threads, [&](int thread, int n_threads) {
      const int64_t groups = rows_ / kRowsAtOnce;
      const int64_t end = groups * (thread + 1) / n_threads * kRowsAtOnce;
      for (int64_t r = groups * thread / n_threads * kRowsAtOnce; r < end; r += kRowsAtOnce) {
        for (int64_t t = 0; t < bench_.n_tokens; ++t) {
          kernels_.matvec(bench_.dtype, segment.data, segment.row_stride_bytes, kCols,
                          vectors_[static_cast<size_t>(thread)].bytes() + t * VectorBytes(),
                          nullptr, r, r + kRowsAtOnce, out_.as<float>() + t * rows_);
        }
      }
    });
  }

  // Returns the operations per second of the instruction on all threads.
  double TimeRoof() const {
    if (kernels_.gemm == nullptr) return 0;
    const GemmForm form = kernels_.gemm->rows_form(bench_.dtype);
    int64_t macs = 0;
    const double seconds = TimeOnTeam(bench_.n_threads, [&](int thread, int) {
      const int64_t done = kernels_.gemm->multiply_registers(form, kRoofRounds);
      if (thread == 0) macs = done;
    });
    return 2.0 * static_cast<double>(macs) * bench_.n_threads / seconds;
  }

  // Returns "" when the last product of the rows from 0 is right. Activations in int8 are off by
  // about 1 % of their size, independently (see BenchWeights); the derived tolerances are in the
  // tests.
  std::string Verify() {
    std::vector<float> row(kCols);
    for (int64_t r = 0; r < std::min(kVerifiedRows, rows_); ++r) {
      AvailableCpuKernels().front()->dequantize_f32(bench_.dtype, view_.row(r), 0, kCols,
                                                    row.data());
      for (int64_t t = 0; t < bench_.n_tokens; ++t) {
        double reference = 0;
        double squares = 0;
        for (int64_t c = 0; c < kCols; ++c) {
          const double product = static_cast<double>(row[static_cast<size_t>(c)]) *
                                 x_[static_cast<size_t>(t * kCols + c)];
          reference += product;
          squares += product * product;
        }
        const float got = out_.as<float>()[t * rows_ + r];
        if (!(std::fabs(got - reference) <= 0x1p-6 * std::sqrt(squares) * 5)) {
          return fmt::format("wrong at token {}, row {}: {} instead of {}", t, r, got, reference);
        }
      }
    }
    return "";
  }

  int64_t NextSegment(int64_t first) const {
    return first + 2 * rows_ <= view_.rows ? first + rows_ : 0;
  }

 private:
  int64_t VectorBytes() const {
    return kernels_.prepared_bytes(kernels_.vector_form(bench_.dtype), kCols);
  }

  GemmInput PrepareInput() {
    const GemmForm form = PanelGemm::RowsForm(kernels_, bench_.dtype);
    GemmInput input = {form, reinterpret_cast<const std::byte*>(x_.data()), bench_.n_tokens, kCols};
    if (kernels_.gemm == nullptr) return input;
    const int64_t tiles = gemm_tile_count(bench_.n_tokens, kernels_.gemm->tile_tokens(form));
    kernels_.gemm->prepare(form, x_.data(), bench_.n_tokens, kCols, 0, tiles, input_.bytes());
    input.data = input_.bytes();
    return input;
  }

  Case bench_;
  const KernelTable& kernels_;
  TensorView view_;
  std::vector<float> x_;
  int64_t rows_ = 0;  // rows of a segment
  double macs_ = 0;
  AlignedBuffer out_;
  AlignedBuffer input_;
  std::vector<std::unique_ptr<PanelGemm>> panels_;
  std::vector<AlignedBuffer> vectors_;  // a vector for each thread
};

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void RunCase(benchmark::State& state, const Case& bench) {
  const PinnedTeam pinned(bench.n_threads);
  GemmBench run(bench, SharedBenchWeights(bench.dtype, kCols, kWeightBytes));
  run.TimeRows(0);
  std::string wrong = run.Verify();
  run.TimePanels(0);
  if (wrong.empty()) wrong = run.Verify();
  if (!wrong.empty()) return state.SkipWithError(wrong.c_str());
  std::vector<double> panels;
  std::vector<double> rows;
  std::vector<double> roof;
  int64_t first = 0;
  for (auto _ : state) {
    panels.push_back(run.TimePanels(first));
    state.SetIterationTime(panels.back());
    first = run.NextSegment(first);
    rows.push_back(run.TimeRows(first));
    first = run.NextSegment(first);
    roof.push_back(run.TimeRoof());
  }
  const double gemm_ops = 2 * run.macs() / Median(panels);
  state.counters["gemm_Gops"] = gemm_ops / 1e9;
  state.counters["rows_Gops"] = 2 * run.macs() / Median(rows) / 1e9;
  state.counters["gemm_GBs"] = run.bytes() / Median(panels) / 1e9;
  state.counters["roof_Gops"] = Median(roof) / 1e9;
  state.counters["gemm_roof"] = gemm_ops / Median(roof);
  state.counters["gain"] = Median(rows) / Median(panels);
}

}  // namespace

void RegisterGemmCases(int max_threads) {
  for (const DType dtype : kWeightDTypes) {
    for (const int64_t n_tokens : {1, 2, 3, 4, 5, 6, 8, 12, 16, 128, 512}) {
      for (int n_threads = 1; n_threads <= max_threads; ++n_threads) {
        const Case bench = {dtype, n_tokens, n_threads};
        const std::string name =
            fmt::format("gemm/{}/tokens:{}/threads:{}", DTypeName(dtype), n_tokens, n_threads);
        benchmark::RegisterBenchmark(name.c_str(), RunCase, bench)
            ->UseManualTime()
            ->Unit(benchmark::kMicrosecond)
            ->Iterations(kIterations);
      }
    }
  }
}

}  // namespace thermocline
