#include "tools/kernel_bench/gpu_chain.h"

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "gpu_kernels/base/gpu_support.h"
#include "gpu_kernels/base/read_bandwidth.h"
#include "runtime/core/error.h"
#include "tools/kernel_bench/gpu_cases.h"
#include "tools/kernel_bench/rates.h"

namespace thermocline {
namespace {

constexpr uint64_t kFullBytes = 2ULL << 30;
constexpr uint64_t kEmulatedBytes = 64 << 10;
constexpr int64_t kMaxLinks = 512;  // links of a graph
constexpr int kIterations = 15;
constexpr int kWarmUps = 2;
constexpr double kMsPerSecond = 1e3;

// Returns the seconds between two events around what work() enqueues.
template <typename Work>
double SecondsOf(Stream& stream, const Work& work) {
  Event begin(Event::Timing::kOn);
  Event end(Event::Timing::kOn);
  stream.Record(begin);
  work();
  stream.Record(end);
  end.Synchronize();
  return ElapsedMs(begin, end) / kMsPerSecond;
}

// A stretch of device memory that is read plainly. It is not the chains' memory, so that they do
// not warm it.
class Roof {
 public:
  explicit Roof(Stream& stream)
      : stream_(stream),
        memory_(GpuChainBytes() / kUnit * kUnit, "measuring read bandwidth"),
        sum_(sizeof(uint32_t), "measuring read bandwidth") {
    stream.Fill(memory_.as<void>(), 1, memory_.size());
    stream.Fill(sum_.as<void>(), 0, sum_.size());
  }
  void Read() { GpuReadWords(stream_, memory_.as<void>(), memory_.size(), sum_.as<uint32_t>()); }
  double BytesPerSecond() {
    return static_cast<double>(memory_.size()) / SecondsOf(stream_, [this] { Read(); });
  }
  const DeviceMemory& memory() const { return memory_; }
  const DeviceMemory& sum() const { return sum_; }

 private:
  static constexpr uint64_t kUnit = 4096;
  Stream& stream_;
  DeviceMemory memory_;
  DeviceMemory sum_;
};

// What all cases share. It lives from the first that runs on.
struct Bench {
  Stream stream;
  std::optional<Roof> roof;
};
std::unique_ptr<Bench>& SharedBench() {
  static std::unique_ptr<Bench> bench;
  return bench;
}
Bench& TheBench() {
  if (SharedBench() == nullptr) SharedBench() = std::make_unique<Bench>();
  return *SharedBench();
}

void Time(benchmark::State& state, GpuChain& chain) {
  Bench& bench = TheBench();
  if (!bench.roof) bench.roof.emplace(bench.stream);
  const GpuChain::Shape shape = chain.shape();
  std::optional<Graph> graph;
  if (shape.captured) {
    GraphCapture capture(bench.stream);
    chain.Enqueue();
    graph.emplace(capture.Finish());
  }
  const auto run = [&] { graph ? graph->Launch(bench.stream) : chain.Enqueue(); };
  run();
  bench.stream.Synchronize();
  chain.Verify();
  if (GpuIsEmulated()) {
    for (auto _ : state) state.SetIterationTime(0);
    return state.SetLabel("verified, not timed: the GPU is emulated");
  }
  for (int i = 0; i < kWarmUps; ++i) run();
  const auto n = static_cast<double>(shape.n_links);
  Rates rates;
  for (auto _ : state) {
    const double seconds = SecondsOf(bench.stream, run) / n;
    state.SetIterationTime(seconds);
    rates.kernel.push_back(shape.link_bytes / seconds);
    rates.roof.push_back(bench.roof->BytesPerSecond());
    if (shape.link_flops > 0) state.counters["GFLOPs"] = shape.link_flops / seconds / 1e9;
  }
  state.SetLabel(fmt::format("verified, {} links", shape.n_links));
  if (shape.link_bytes > 0) ReportRates(std::move(rates), &state);
}

class ReadChain final : public GpuChain {
 public:
  ReadChain(const std::string& name, Stream& stream) : GpuChain(name, stream), roof_(stream) {}
  Shape shape() const override { return {1, static_cast<double>(roof_.memory().size()), 0, true}; }
  void Enqueue() override { roof_.Read(); }
  void Verify() override {
    const auto words = static_cast<uint32_t>(roof_.memory().size() / sizeof(uint32_t));
    ExpectNear(DownloadFromGpu<uint32_t>(stream_, roof_.sum())[0],
               {static_cast<double>(words * 0x01010101U), 0});
  }

 private:
  Roof roof_;
};

// The bytes of a copy are read and written.
class CopyChain final : public GpuChain {
 public:
  CopyChain(const std::string& name, Stream& stream)
      : GpuChain(name, stream), from_(GpuChainBytes() / 2, "copies"), to_(from_.size(), "copies") {
    stream.Fill(from_.as<void>(), 7, from_.size());
    stream.Fill(to_.as<void>(), 0, to_.size());
  }
  Shape shape() const override { return {1, 2 * static_cast<double>(from_.size()), 0, true}; }
  void Enqueue() override { stream_.Copy(to_.as<void>(), from_.as<void>(), from_.size()); }
  void Verify() override {
    const std::vector<uint8_t> copied = DownloadFromGpu<uint8_t>(stream_, to_);
    const auto wrong = std::find_if(copied.begin(), copied.end(), [](uint8_t b) { return b != 7; });
    if (wrong != copied.end()) ExpectNear(*wrong, {7, 0});
  }

 private:
  DeviceMemory from_;
  DeviceMemory to_;
};

}  // namespace

void GpuChain::ExpectNear(double found, const Reference& reference) const {
  if (!(std::fabs(found - reference.value) <= reference.allowed)) {
    WrongResult(name_.c_str(), found, reference.value);
  }
}

bool GpuIsEmulated() {
  static const bool emulated = QueryGpuSupport().emulated;
  return emulated;
}

uint64_t GpuChainBytes() {
  return GpuIsEmulated() ? kEmulatedBytes
                         : std::min(kFullBytes, QueryDeviceMemory().free_bytes / 2);
}

void AddGpuCase(const std::string& name,
                std::function<std::unique_ptr<GpuChain>(const std::string&, Stream&)> make) {
  const auto run = [name, make = std::move(make)](benchmark::State& state) {
    try {
      const auto chain = make(name, TheBench().stream);
      Time(state, *chain);
    } catch (const Error& error) {
      state.SkipWithError(error.what());
    }
  };
  benchmark::RegisterBenchmark(name.c_str(), run)
      ->UseManualTime()
      ->Unit(benchmark::kMicrosecond)
      ->Iterations(GpuIsEmulated() ? 1 : kIterations);
}

GpuMatrices::GpuMatrices(Stream& stream, DType dtype, int64_t rows, int64_t cols, int64_t multiple)
    : host_(dtype, cols, static_cast<uint64_t>(rows * RowBytes(dtype, cols))),
      dtype_(dtype),
      rows_(rows),
      cols_(cols),
      matrix_bytes_(static_cast<uint64_t>(rows * GpuRowBytes(dtype, cols))) {
  const auto fitting = static_cast<int64_t>(GpuChainBytes() / matrix_bytes_);
  n_ = std::clamp<int64_t>(fitting / multiple * multiple, multiple, kMaxLinks);
  memory_ = DeviceMemory(static_cast<uint64_t>(n_) * matrix_bytes_, "weights of the bench");
  std::vector<std::byte> packed(matrix_bytes_);
  PackGpuRows(dtype, host_.data(), host_.stride_bytes(), rows, cols, packed.data());
  auto* const first = memory_.as<std::byte>();
  stream.Copy(first, packed.data(), matrix_bytes_);
  for (int64_t i = 1; i < n_; ++i) {
    stream.Copy(first + static_cast<uint64_t>(i) * matrix_bytes_, first, matrix_bytes_);
  }
  stream.Synchronize();
}

GpuMatrix GpuMatrices::at(int64_t i) const {
  return MakeGpuMatrix(memory_.as<std::byte>() + static_cast<uint64_t>(i) * matrix_bytes_, dtype_,
                       rows_, cols_);
}

InputRounding DecodeRounding(DType weights) { return {GetDTypeInfo(weights).block_elems > 1, 0.0}; }

DotReference ReferenceDot(const float* w, const float* x, int64_t n,
                          const InputRounding& rounding) {
  double value = 0;
  double magnitudes = 0;
  for (int64_t first = 0; first < n; first += kQuantBlock) {
    const int64_t end = std::min(n, first + kQuantBlock);
    float largest = 0;
    for (int64_t i = first; i < end; ++i) largest = std::max(largest, std::fabs(x[i]));
    const float scale = largest / 127.0F;
    const float inverse = scale > 0 ? 1.0F / scale : 0.0F;
    for (int64_t i = first; i < end; ++i) {
      const double seen =
          rounding.to_int8 ? double{std::nearbyint(x[i] * inverse)} * scale : double{x[i]};
      value += w[i] * seen;
      magnitudes += std::fabs(w[i] * seen);
    }
  }
  // A term in an f32 sum is rounded at most once per element; f16 rounds the weight as well.
  return {value, magnitudes * (static_cast<double>(n + 32) * 0x1p-24 + 2 * rounding.of_value)};
}

void RegisterGpuReads() {
  AddGpuCase("gpu/read", [](const std::string& name, Stream& stream) {
    return std::make_unique<ReadChain>(name, stream);
  });
  AddGpuCase("gpu/copy", [](const std::string& name, Stream& stream) {
    return std::make_unique<CopyChain>(name, stream);
  });
}

void ReleaseGpuCases() { SharedBench().reset(); }

void RegisterGpuCases() {
  if (!QueryGpuSupport().available) return;
  benchmark::AddCustomContext("gpu", QueryGpuSupport().device);
  RegisterGpuReads();
  RegisterGpuMatrixCases();
  RegisterGpuFfnCases();
  RegisterGpuTokenCases();
}

}  // namespace thermocline
