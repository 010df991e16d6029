#include "runtime/rates/measure_gpu.h"

#include <algorithm>
#include <chrono>
#include <memory>

#include "cpu_kernels/kernels.h"
#include "gpu_kernels/base/gpu_support.h"
#include "runtime/core/aligned_buffer.h"
#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"
#include "runtime/device/batch.h"
#include "runtime/device/gpu/make_gpu_device.h"
#include "runtime/device/handover.h"
#include "runtime/device/kv_pages.h"
#include "runtime/threads/team.h"

namespace thermocline {
namespace {

constexpr int64_t kHeadDim = 64;
constexpr int64_t kUsualWidth = 4096;
constexpr int kTimes = 5;

// What is timed. An emulated GPU is slow, and what it does says nothing: it gets little.
struct Sizes {
  Sizes(bool emulated, int64_t cols)
      : d_model(cols),
        n_rows(emulated ? 64 : 16384),
        n_matrices(emulated ? 1 : 8),
        n_ops(emulated ? 4 : 64),
        copy_bytes(emulated ? uint64_t{1} << 20 : uint64_t{64} << 20),
        max_rows(emulated ? 4 : kRateRows[kRateRowCounts - 1]) {}

  int64_t d_model;
  int64_t n_rows;
  int64_t n_matrices;  // of n_rows each, so that no cache holds them all
  int64_t n_ops;
  uint64_t copy_bytes;
  int64_t max_rows;
};

ModelConfig ConfigOf(const Sizes& sizes) {
  ModelConfig config;
  config.n_layers = 1;
  config.d_model = sizes.d_model;
  config.d_ff = kQuantBlock;
  config.n_heads = sizes.d_model / kHeadDim;
  config.n_kv_heads = config.n_heads;
  config.head_dim = kHeadDim;
  config.vocab_size = sizes.n_rows;
  config.max_seq_len = sizes.max_rows;
  config.rope.rot_dim = kHeadDim;
  config.MakeLayersEqual();
  return config;
}

class GpuMeter {
 public:
  GpuMeter(bool emulated, int64_t cols)
      : sizes_(emulated, cols), config_(ConfigOf(sizes_)), device_(MakeDevice()) {
    queued_ = device_->queued();
    CHECK(queued_ != nullptr);
    const auto floats = [&](int64_t n) {
      return static_cast<float*>(
          device_->Allocate(static_cast<uint64_t>(n) * sizeof(float), "measuring the GPU"));
    };
    x_ = floats(sizes_.max_rows * sizes_.d_model);
    out_ = floats(sizes_.max_rows * sizes_.n_rows);
    for (int64_t p = 0; p < KvPagesFor(sizes_.max_rows); ++p) {
      pages_.push_back(static_cast<int32_t>(p));
    }
  }

  TypeRates Type(const RateKey& key) {
    const std::vector<LinearWeights> weights = Store(key.dtype, sizes_.n_matrices, sizes_.n_rows);
    TypeRates type{.key = key};
    const auto n_weights = static_cast<double>(sizes_.n_matrices * sizes_.n_rows * sizes_.d_model);
    for (const int64_t wanted : kRateRows) {
      const int64_t rows = std::min(wanted, sizes_.max_rows);
      const double seconds = PassSeconds(rows, [&] {
        for (const LinearWeights& w : weights) {
          const LinearOp ops[] = {{&w, out_}};
          device_->Linear(Lane{}, ops, x_, rows);
        }
      });
      const double scale = static_cast<double>(rows) / static_cast<double>(wanted);
      type.linear_weights_per_s.push_back(scale * n_weights / seconds);
    }
    type.ffn_weights_per_s = type.linear_weights_per_s;
    // A GPU's few rows are multiplied at once, and its down rows are read like others.
    type.cached_weights_per_s.push_back(type.linear_weights_per_s.front());
    type.sum_weights_per_s.push_back(type.linear_weights_per_s.front());
    return type;
  }

  double OpUs() {
    const std::vector<LinearWeights> weights = Store(DType::kF16, 1, kQuantBlock);
    return 1e6 *
           PassSeconds(1,
                       [&] {
                         const LinearOp ops[] = {{&weights.front(), out_}};
                         for (int64_t i = 0; i < sizes_.n_ops; ++i)
                           device_->Linear(Lane{}, ops, x_, 1);
                       }) /
           static_cast<double>(sizes_.n_ops);
  }

  // To the host and back, n_ops times in one kept pass.
  double HandoverUs() {
    const auto handover = queued_->MakeHandover(1, sizes_.d_model, false);
    const auto n = static_cast<uint32_t>(sizes_.n_ops);
    const double seconds = PassSeconds(
        1,
        [&] {
          for (uint32_t i = 0; i < n; ++i) {
            handover->SendInput(x_, nullptr, 1);
            handover->Merge(Lane{}, *device_, 0, i, x_, nullptr, 1);
          }
        },
        [&] { handover->BeginPass(); },
        [&] {
          for (uint32_t i = 0; i < n; ++i) {
            handover->AwaitInput(Lane{}, i);
            handover->SendOutput(i);
          }
        });
    handover->Check();
    return 1e6 * seconds / n;
  }

  void MeasureCopies(GpuRates* rates) {
    AlignedBuffer host(sizes_.copy_bytes, "measuring the bus");
    void* const memory = device_->Allocate(sizes_.copy_bytes, "measuring the bus");
    const auto rate = [&](const std::function<void()>& copy) {
      return static_cast<double>(sizes_.copy_bytes) / MedianSeconds(copy);
    };
    rates->to_gpu_bytes_per_s =
        rate([&] { device_->Upload(memory, host.data(), sizes_.copy_bytes); });
    rates->from_gpu_bytes_per_s =
        rate([&] { queued_->Download(host.data(), memory, sizes_.copy_bytes); });
  }

 private:
  std::unique_ptr<Device> MakeDevice() const {
    return MakeGpuDevice("gpu", {.config = &config_,
                                 .max_tokens = sizes_.max_rows,
                                 .max_seq_len = sizes_.max_rows,
                                 .max_neurons = kQuantBlock});
  }

  std::vector<LinearWeights> Store(DType dtype, int64_t n_matrices, int64_t n_rows) {
    const int64_t row_bytes = RowBytes(dtype, sizes_.d_model);
    AlignedBuffer host(static_cast<uint64_t>(n_rows * row_bytes), "measuring the GPU");
    std::vector<LinearWeights> weights;
    for (int64_t i = 0; i < n_matrices; ++i) {
      const TensorView view = DenseView(host.data(), dtype, n_rows, sizes_.d_model);
      weights.push_back({device_->StoreRows(view, {}, "measuring the GPU"), nullptr});
    }
    return weights;
  }

  static double MedianSeconds(const std::function<void()>& body) {
    std::vector<double> seconds;
    for (int i = 0; i < kTimes; ++i) {
      ThrowIfInterrupted();
      const auto start = std::chrono::steady_clock::now();
      body();
      const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
      seconds.push_back(time.count());
    }
    std::ranges::sort(seconds);
    return seconds[seconds.size() / 2];
  }

  // Of a pass of so many rows that enqueues this, kept where passes are.
  double PassSeconds(int64_t rows, const std::function<void()>& enqueue,
                     const std::function<void()>& before = {},
                     const std::function<void()>& beside = {}) {
    Batch batch;
    batch.sequences.push_back({.tables = {{0, pages_}}});
    for (int64_t r = 0; r < rows; ++r) batch.rows.push_back({0, 0, r, false});
    const std::vector<BatchSegment> segments = batch.Segments();
    const int64_t key = next_key_++;
    const auto pass = [&] {
      if (before) before();
      queued_->BeginPass(batch, segments, nullptr);
      rows <= kMaxKeptTokens ? queued_->Run(key, enqueue) : enqueue();
      if (beside) beside();
      queued_->Finish();
    };
    pass();  // captures
    return MedianSeconds(pass);
  }

  Sizes sizes_;
  ModelConfig config_;
  std::unique_ptr<Device> device_;
  QueuedDevice* queued_ = nullptr;
  float* x_ = nullptr;    // (max_rows, d_model)
  float* out_ = nullptr;  // (max_rows, n_rows)
  std::vector<int32_t> pages_;
  int64_t next_key_ = 0;
};

}  // namespace

GpuRates MeasureGpu(const std::vector<RateKey>& types) {
  const GpuSupport support = QueryGpuSupport();
  CHECK(support.available);
  GpuRates rates{.emulated = support.emulated, .types = {}};
  GpuMeter meter(support.emulated, kUsualWidth);
  rates.op_us = meter.OpUs();
  rates.handover_us = meter.HandoverUs();
  meter.MeasureCopies(&rates);
  for (const RateKey& key : types) {
    // Memory of a device is never given back before it ends, so each type has its own.
    rates.types.push_back(GpuMeter(support.emulated, key.cols).Type(key));
    const double bytes_per_weight =
        static_cast<double>(RowBytes(key.dtype, key.cols)) / static_cast<double>(key.cols);
    rates.read_bytes_per_s = std::max(
        rates.read_bytes_per_s, bytes_per_weight * rates.types.back().linear_weights_per_s.front());
  }
  return rates;
}

}  // namespace thermocline
