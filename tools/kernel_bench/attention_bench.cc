// Attention of one token over a long context: scores, softmax weights and the weighted values, in
// chunks of positions that stay in cache, as the runtime does it. Bytes are those of the keys and
// values, each counted once.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "runtime/core/aligned_buffer.h"
#include "runtime/rates/read_bandwidth.h"
#include "runtime/threads/processors.h"
#include "tools/kernel_bench/bench_weights.h"
#include "tools/kernel_bench/rates.h"
#include "tools/kernel_bench/sweeps.h"

namespace thermocline {
namespace {

constexpr uint64_t kCacheBytes = 768ULL << 20;
constexpr int64_t kHeadDim = 128;
constexpr int64_t kKvHeads = 8;
constexpr int64_t kChunk = 256;
constexpr int64_t kChunkStride = kHeadDim + 16;  // a head's sums, and the chunk's m and sum
constexpr int kIterations = 40;

struct AttentionCase {
  DType dtype;
  int64_t context;
  int64_t group;  // query heads per KV head
  int n_threads;

  std::string Name() const {
    return fmt::format("attention/{}/context:{}/group:{}/threads:{}", DTypeName(dtype), context,
                       group, n_threads);
  }
};

const BenchWeights& CacheOf(DType dtype) {
  static std::unique_ptr<BenchWeights> cache;
  if (cache == nullptr || cache->dtype() != dtype) {
    cache.reset();
    cache = std::make_unique<BenchWeights>(dtype, kHeadDim, kCacheBytes);
    cache->verify();
  }
  return *cache;
}

// Runs one layer after the other, each with keys and values of every KV head.
class AttentionRun {
 public:
  AttentionRun(const AttentionCase& bench, const BenchWeights& cache)
      : bench_(bench),
        cache_(cache),
        n_chunks_((bench.context + kChunk - 1) / kChunk),
        n_layers_(cache.n_rows() / (2 * kKvHeads * bench.context)),
        scores_(static_cast<uint64_t>(bench.n_threads * kChunk) * sizeof(float), "scores"),
        chunks_(static_cast<uint64_t>(kKvHeads * n_chunks_ * kChunkStride) * sizeof(float),
                "outputs") {}

  double Seconds(int64_t step) {
    layer_row_ = step % n_layers_ * 2 * kKvHeads * bench_.context;
    const int64_t items = kKvHeads * n_chunks_;
    return TimeOnTeam(bench_.n_threads, [&](int thread, int n_threads) {
      for (int64_t i = items * thread / n_threads; i < items * (thread + 1) / n_threads; ++i) {
        for (int64_t g = 0; g < bench_.group; ++g) {
          Chunk(i / n_chunks_, i % n_chunks_, scores_.as<float>() + thread * kChunk);
        }
      }
    });
  }
  double Bytes() const {
    return static_cast<double>(2 * kKvHeads * bench_.context * cache_.stride_bytes());
  }

  // Checks the first head of the layer that was computed last.
  void Verify() {
    const double scale = 1 / std::sqrt(static_cast<double>(kHeadDim));
    std::vector<double> weights;
    double largest = -INFINITY;
    for (int64_t p = 0; p < bench_.context; ++p) {
      double score = 0;
      for (size_t i = 0; i < kHeadDim; ++i) {
        score += scale * cache_.x()[i] * cache_.distinct(KeyRow(0) + p)[i];
      }
      weights.push_back(score);
      largest = std::max(largest, score);
    }
    double sum = 0;
    for (double& weight : weights) sum += weight = std::exp(weight - largest);
    const std::vector<double> found = Merged();
    for (size_t i = 0; i < kHeadDim; ++i) {
      double reference = 0;
      double magnitudes = 0;
      for (int64_t p = 0; p < bench_.context; ++p) {
        const double term =
            weights[static_cast<size_t>(p)] / sum * cache_.distinct(ValueRow(0) + p)[i];
        reference += term;
        magnitudes += std::fabs(term);
      }
      // Queries of 8 bits move a score by about a hundredth.
      if (!(std::fabs(found[i] - reference) <= 0.1 * magnitudes)) {
        WrongResult(bench_.Name().c_str(), found[i], reference);
      }
    }
  }

 private:
  int64_t KeyRow(int64_t head) const { return layer_row_ + head * bench_.context; }
  int64_t ValueRow(int64_t head) const { return KeyRow(kKvHeads + head); }

  void Chunk(int64_t head, int64_t c, float* scores) {
    const KernelTable& kernels = CpuKernels();
    const int64_t stride = cache_.stride_bytes();
    const int64_t n = std::min(kChunk, bench_.context - c * kChunk);
    float* out = chunks_.as<float>() + (head * n_chunks_ + c) * kChunkStride;
    kernels.matvec(bench_.dtype, cache_.data() + (KeyRow(head) + c * kChunk) * stride, stride,
                   kHeadDim, cache_.prepared(), nullptr, 0, n, scores);
    out[kHeadDim + 1] =
        kernels.exp_scores(scores, n, 1 / std::sqrt(float{kHeadDim}), out + kHeadDim);
    std::fill_n(out, kHeadDim, 0.0F);
    kernels.accumulate_rows(bench_.dtype, cache_.data() + (ValueRow(head) + c * kChunk) * stride,
                            stride, scores, nullptr, n, 0, kHeadDim, out);
  }

  std::vector<double> Merged() {
    std::vector<double> out(kHeadDim, 0.0);
    double sum = 0;
    const float* chunk = chunks_.as<float>();
    const float m = chunk[kHeadDim];
    for (int64_t c = 0; c < n_chunks_; ++c, chunk += kChunkStride) {
      const double weight = std::exp(static_cast<double>(chunk[kHeadDim]) - m);
      sum += weight * chunk[kHeadDim + 1];
      for (size_t i = 0; i < kHeadDim; ++i) out[i] += weight * chunk[i];
    }
    for (double& x : out) x /= sum;
    return out;
  }

  const AttentionCase bench_;
  const BenchWeights& cache_;
  const int64_t n_chunks_;
  const int64_t n_layers_;
  int64_t layer_row_ = 0;
  AlignedBuffer scores_;  // (n_threads, kChunk)
  AlignedBuffer chunks_;  // (kKvHeads, n_chunks, kChunkStride)
};

void RunAttention(benchmark::State& state, const AttentionCase& bench) {
  const BenchWeights& cache = CacheOf(bench.dtype);
  AttentionRun run(bench, cache);
  const PinnedTeam pinned(bench.n_threads);
  run.Seconds(0);
  run.Verify();
  Rates rates;
  int64_t step = 1;
  for (auto _ : state) {
    const double seconds = run.Seconds(step++);
    state.SetIterationTime(seconds);
    rates.kernel.push_back(run.Bytes() / seconds);
    rates.roof.push_back(RoofSample(bench.n_threads));
  }
  ReportRates(std::move(rates), &state);
}

}  // namespace

void RegisterAttentionSweeps(bool all) {
  const int max_threads = DefaultThreadCount();
  for (const DType dtype : {DType::kF16, DType::kQ8_0}) {
    for (const int64_t context : {512, 1024, 2048, 4096, 8192, 16384, 32768}) {
      for (const int64_t group : {1, 4, 8}) {
        for (int n_threads = 1; n_threads <= max_threads; ++n_threads) {
          if (!all && (n_threads < max_threads || group == 8)) continue;
          const AttentionCase bench{dtype, context, group, n_threads};
          benchmark::RegisterBenchmark(bench.Name().c_str(), RunAttention, bench)
              ->UseManualTime()
              ->Unit(benchmark::kMicrosecond)
              ->Iterations(kIterations);
        }
      }
    }
  }
}

}  // namespace thermocline
