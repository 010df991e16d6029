// Times 1 to 8 tokens in turn, each on weights that no cache holds: rows times vectors (matvec), or
// sums over rows (accumulate). One iteration is a round of all of them. The counters are
//   one_GBs               bytes of weights per second with one token, of the median round
//   x2 ... x8             time of so many tokens over that of one, the median over rounds of the
//                         ratio within a round
//   best_x2 ... best_x8   the least time of so many tokens over the least of one
//   panels_x2 ...         the same of products by panels (matvec only), which batches take
// Results are compared bit by bit with those of one token before anything is timed.
#include "tools/kernel_bench/tokens_cases.h"

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "runtime/core/checked_math.h"
#include "runtime/device/cpu/panel_gemm.h"
#include "runtime/rates/read_bandwidth.h"
#include "tools/kernel_bench/bench_weights.h"
#include "tools/kernel_bench/rates.h"

namespace thermocline {
namespace {

constexpr uint64_t kTokensWeightBytes = 512ULL << 20;
constexpr int64_t kTokensSegmentBytes = 24LL << 20;
constexpr int64_t kChunkBytes = 256 << 10;  // what a lane takes at a time
constexpr int64_t kTokensMost = 8;
constexpr int kTokensRounds = 25;
constexpr int64_t kTokensCheckedRows = 70;

struct TokensCase {
  bool accumulate;
  DType dtype;
  int64_t cols;
  int n_threads;

  std::string Name() const {
    return fmt::format("tokens/{}/{}/cols:{}/threads:{}", accumulate ? "accumulate" : "matvec",
                       DTypeName(dtype), cols, n_threads);
  }
};

class TokensBench {
 public:
  TokensBench(const TokensCase& bench, const BenchWeights& weights)
      : bench_(bench),
        kernels_(CpuKernels()),
        w_{weights.data(), bench.dtype, weights.n_rows(), bench.cols, weights.stride_bytes()},
        stride_(PreparedStride(kernels_, kernels_.vector_form(bench.dtype), bench.cols)) {
    rows_ =
        std::min(w_.rows / 2, kTokensSegmentBytes / w_.row_stride_bytes) / kPanelRows * kPanelRows;
    std::mt19937 rng(5);
    std::normal_distribution<float> normal;
    x_.resize(static_cast<size_t>(kTokensMost * std::max(bench.cols, rows_)));
    for (float& value : x_) value = normal(rng);
    out_ = AlignedBuffer(Floats(std::max(rows_, bench.cols * bench.n_threads)), "results");
    input_ = AlignedBuffer(
        std::max<uint64_t>(64, PanelGemm::InputBytes(kernels_, kTokensMost, bench.cols)),
        "activations of the bench");
    for (int i = 0; i < bench.n_threads; ++i) {
      panels_.push_back(std::make_unique<PanelGemm>(kernels_, bench.cols));
      AlignedBuffer& vectors =
          vectors_.emplace_back(static_cast<uint64_t>(kTokensMost * stride_), "vectors");
      for (int64_t t = 0; t < kTokensMost; ++t) {
        kernels_.prepare(kernels_.vector_form(bench.dtype), x_.data() + t * bench.cols, bench.cols,
                         vectors.bytes() + t * stride_);
      }
    }
  }

  double bytes() const { return static_cast<double>(rows_ * w_.row_stride_bytes); }

  // Returns the seconds of n tokens on the next segment.
  double Time(int64_t n) {
    const int64_t first = NextSegment();
    return TimeOnTeam(bench_.n_threads, [&](int thread, int n_threads) {
      const int64_t begin = rows_ * thread / n_threads;
      const int64_t end = rows_ * (thread + 1) / n_threads;
      bench_.accumulate ? Accumulate(n, thread, first + begin, end - begin)
                        : Multiply(n, thread, first, begin, end);
    });
  }

  double TimePanels(int64_t n) {
    const GemmForm form = PanelGemm::RowsForm(kernels_, bench_.dtype);
    GemmInput input = {form, reinterpret_cast<const std::byte*>(x_.data()), n, bench_.cols};
    if (kernels_.gemm != nullptr) {
      const int64_t tiles = gemm_tile_count(n, kernels_.gemm->tile_tokens(form));
      kernels_.gemm->prepare(form, x_.data(), n, bench_.cols, 0, tiles, input_.bytes());
      input.data = input_.bytes();
    }
    const int64_t first = NextSegment();
    const TensorView segment = w_.SliceRows(first, first + rows_);
    return TimeOnTeam(bench_.n_threads, [&](int thread, int n_threads) {
      const int64_t n_panels = rows_ / kPanelRows;
      const int64_t end = n_panels * (thread + 1) / n_threads;
      for (int64_t p = n_panels * thread / n_threads; p < end; ++p) {
        panels_[static_cast<size_t>(thread)]->MultiplyRows(
            segment, p * kPanelRows, (p + 1) * kPanelRows, input, out_.as<float>(), rows_,
            PanelAhead(segment, (p + 1) * kPanelRows));
      }
    });
  }

  // Returns "" when tokens together have the bits of each alone.
  std::string Verify() {
    const int64_t n_rows = std::min(kTokensCheckedRows, rows_);
    const int64_t n_out = bench_.accumulate ? bench_.cols : n_rows;
    std::vector<float> alone(static_cast<size_t>(kTokensMost * n_out), 0.0F);
    std::vector<float> together = alone;
    for (int64_t t = 0; t < kTokensMost; ++t) {
      if (bench_.accumulate) {
        kernels_.accumulate_rows(w_.dtype, w_.data, w_.row_stride_bytes, x_.data() + t * rows_,
                                 nullptr, n_rows, 0, bench_.cols, alone.data() + t * n_out);
      } else {
        kernels_.matvec(w_.dtype, w_.data, w_.row_stride_bytes, bench_.cols,
                        vectors_.front().bytes() + t * stride_, nullptr, 0, n_rows,
                        alone.data() + t * n_out);
      }
    }
    if (bench_.accumulate) {
      kernels_.accumulate_tokens(
          w_.dtype, {w_.data, w_.row_stride_bytes, x_.data(), nullptr, n_rows, 0, bench_.cols,
                     together.data(), kTokensMost, rows_, n_out});
    } else {
      kernels_.matvec_tokens(
          w_.dtype, {w_.data, w_.row_stride_bytes, bench_.cols, vectors_.front().bytes(), nullptr,
                     0, n_rows, together.data(), kTokensMost, stride_, n_out});
    }
    const bool same = std::memcmp(alone.data(), together.data(), alone.size() * sizeof(float)) == 0;
    return same ? "" : "tokens together have other bits than alone";
  }

 private:
  static uint64_t Floats(int64_t n) {
    return static_cast<uint64_t>(kTokensMost * n) * sizeof(float);
  }

  int64_t NextSegment() {
    const int64_t first = next_;
    next_ = next_ + 2 * rows_ <= w_.rows ? next_ + rows_ : 0;
    return first;
  }

  void Multiply(int64_t n, int thread, int64_t first, int64_t begin, int64_t end) {
    const std::byte* const x = vectors_[static_cast<size_t>(thread)].bytes();
    const int64_t chunk = std::max<int64_t>(8, kChunkBytes / w_.row_stride_bytes);
    for (int64_t at = begin; at < end; at += chunk) {
      const int64_t last = std::min(at + chunk, end);
      if (n == 1) {
        kernels_.matvec(w_.dtype, w_.row(first), w_.row_stride_bytes, bench_.cols, x, nullptr, at,
                        last, out_.as<float>());
      } else {
        kernels_.matvec_tokens(w_.dtype, {w_.row(first), w_.row_stride_bytes, bench_.cols, x,
                                          nullptr, at, last, out_.as<float>(), n, stride_, rows_});
      }
    }
  }

  void Accumulate(int64_t n, int thread, int64_t row, int64_t n_rows) {
    float* const y = out_.as<float>() + thread * kTokensMost * bench_.cols;
    if (n == 1) {
      kernels_.accumulate_rows(w_.dtype, w_.row(row), w_.row_stride_bytes, x_.data(), nullptr,
                               n_rows, 0, bench_.cols, y);
    } else {
      kernels_.accumulate_tokens(w_.dtype, {w_.row(row), w_.row_stride_bytes, x_.data(), nullptr,
                                            n_rows, 0, bench_.cols, y, n, rows_, bench_.cols});
    }
  }

  const TokensCase bench_;
  const KernelTable& kernels_;
  TensorView w_;
  int64_t stride_;
  int64_t rows_ = 0;  // of a segment
  int64_t next_ = 0;
  std::vector<float> x_;
  AlignedBuffer out_;
  AlignedBuffer input_;
  std::vector<std::unique_ptr<PanelGemm>> panels_;
  std::vector<AlignedBuffer> vectors_;  // of each thread
};

double MedianRatio(const std::vector<double>& times, const std::vector<double>& ones) {
  std::vector<double> ratios(times.size());
  for (size_t i = 0; i < times.size(); ++i) ratios[i] = times[i] / ones[i];
  std::sort(ratios.begin(), ratios.end());
  return ratios[ratios.size() / 2];
}

void RunTokens(benchmark::State& state, const TokensCase& bench) {
  const PinnedTeam pinned(bench.n_threads);
  TokensBench run(bench, SharedBenchWeights(bench.dtype, bench.cols, kTokensWeightBytes));
  const std::string wrong = run.Verify();
  if (!wrong.empty()) return state.SkipWithError(wrong.c_str());
  std::array<std::vector<double>, kTokensMost + 1> tokens;
  std::array<std::vector<double>, kTokensMost + 1> panels;
  for (auto _ : state) {
    double total = 0;
    for (int64_t n = 1; n <= kTokensMost; ++n) {
      tokens[static_cast<size_t>(n)].push_back(run.Time(n));
      total += tokens[static_cast<size_t>(n)].back();
      if (!bench.accumulate && n % 2 == 0) {
        panels[static_cast<size_t>(n)].push_back(run.TimePanels(n));
      }
    }
    state.SetIterationTime(total);
  }
  std::vector<double> one = tokens[1];
  std::sort(one.begin(), one.end());
  state.counters["one_GBs"] = run.bytes() / one[one.size() / 2] / 1e9;
  for (size_t n = 2; n <= kTokensMost; ++n) {
    state.counters[fmt::format("x{}", n)] = MedianRatio(tokens[n], tokens[1]);
    state.counters[fmt::format("best_x{}", n)] = *std::ranges::min_element(tokens[n]) / one.front();
    if (panels[n].empty()) continue;
    state.counters[fmt::format("panels_x{}", n)] = MedianRatio(panels[n], tokens[1]);
  }
}

}  // namespace

void RegisterTokensCases(int max_threads) {
  for (const DType dtype : kWeightDTypes) {
    for (const int64_t cols : {4096, 11008}) {
      for (const bool accumulate : {false, true}) {
        for (int n_threads = 1; n_threads <= max_threads; ++n_threads) {
          const TokensCase bench = {accumulate, dtype, cols, n_threads};
          benchmark::RegisterBenchmark(bench.Name().c_str(), RunTokens, bench)
              ->UseManualTime()
              ->Unit(benchmark::kMicrosecond)
              ->Iterations(kTokensRounds);
        }
      }
    }
  }
}

}  // namespace thermocline
