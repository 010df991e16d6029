// Attention of one token over a long context on the GPU, and the round trip of a hand-over.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <thread>

#include "cpu_kernels/kernels.h"
#include "gpu_kernels/tokens/attention.h"
#include "gpu_kernels/tokens/handover.h"
#include "gpu_kernels/tokens/kv_planes.h"
#include "gpu_kernels/tokens/rope_append.h"
#include "tools/kernel_bench/gpu_chain.h"

namespace thermocline {
namespace {

std::vector<float> NormalValues(int64_t n, unsigned seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(n));
  for (float& value : values) value = normal(rng);
  return values;
}

// Rounds values to what a cache of the type stores of them: rows of whole blocks.
void RoundAsStored(DType dtype, std::vector<float>& values) {
  const KernelTable& kernels = CpuKernels();
  const auto n = static_cast<int64_t>(values.size());
  std::vector<std::byte> stored(static_cast<size_t>(RowBytes(dtype, n)));
  if (dtype == DType::kF16) {
    kernels.f32_to_f16(values.data(), n, reinterpret_cast<uint16_t*>(stored.data()));
  } else {
    kernels.f32_to_q8_0(values.data(), n, stored.data());
  }
  kernels.dequantize_f32(dtype, stored.data(), 0, n, values.data());
}

struct AttentionShape {
  DType dtype;
  int64_t context;
  int64_t n_heads;
  int64_t n_kv_heads;
  int64_t head_dim;

  int64_t kv_dim() const { return n_kv_heads * head_dim; }
  int64_t q_dim() const { return n_heads * head_dim; }
};

// A link is a layer; all layers hold the same keys and values.
class AttentionChain final : public GpuChain {
 public:
  AttentionChain(const std::string& name, Stream& stream, const AttentionShape& bench)
      : GpuChain(name, stream),
        bench_(bench),
        n_layers_(LayersOf(bench)),
        k_values_(NormalValues(bench.context * bench.kv_dim(), 7)),
        v_values_(NormalValues(bench.context * bench.kv_dim(), 8)),
        q_values_(NormalValues(bench.q_dim(), 9)),
        q_(UploadToGpu(stream, q_values_)),
        cache_({bench.dtype, n_layers_, bench.n_kv_heads, bench.head_dim,
                PagesOf(bench.context) * kGpuKvPageTokens}),
        inputs_({1, PagesOf(bench.context)}),
        scratch_(GpuAttendScratchBytes(1, bench.n_heads, bench.head_dim, bench.context),
                 "a bench's scratch"),
        out_(static_cast<uint64_t>(n_layers_ * bench.q_dim()) * sizeof(float), "a bench's result") {
    const DeviceMemory k = UploadToGpu(stream, k_values_);
    const DeviceMemory v = UploadToGpu(stream, v_values_);
    // There are no heads of q, and nothing turns: keys and values are stored as they are.
    const GpuRope none{.cos = k.as<float>(), .sin = k.as<float>()};
    GpuPassInputs context({bench.context, PagesOf(bench.context)});
    SendRows(&context, 0, bench.context);
    SendRows(&inputs_, bench.context - 1, 1);
    for (int64_t layer = 0; layer < n_layers_; ++layer) {
      GpuRopeAppend(stream, none, cache_.Layer(layer), context.pass(), 0, q_.as<float>(),
                    k.as<float>(), v.as<float>());
    }
    stream.Fill(out_.as<void>(), 0xff, out_.size());
    stream.Synchronize();
    RoundAsStored(bench.dtype, k_values_);
    RoundAsStored(bench.dtype, v_values_);
  }
  Shape shape() const override { return {n_layers_, LayerBytes(bench_), 0, true}; }
  void Enqueue() override {
    const GpuAttention attention{
        .n_heads = bench_.n_heads,
        .scale = 1 / std::sqrt(static_cast<float>(bench_.head_dim)),
    };
    for (int64_t layer = 0; layer < n_layers_; ++layer) {
      GpuAttendFew(stream_, cache_.Layer(layer), inputs_.pass(), attention, bench_.context,
                   q_.as<float>(), scratch_.as<void>(), out_.as<float>() + layer * bench_.q_dim());
    }
  }
  // Checks the first and the last head in double. Every layer has the first one's bits.
  void Verify() override {
    const std::vector<float> out = DownloadFromGpu<float>(stream_, out_);
    const auto q_dim = static_cast<size_t>(bench_.q_dim());
    for (size_t i = q_dim; i < out.size(); ++i) ExpectNear(out[i], {out[i % q_dim], 0});
    for (const int64_t head : {int64_t{0}, bench_.n_heads - 1}) VerifyHead(head, out);
  }

 private:
  static int64_t PagesOf(int64_t n_positions) {
    return (n_positions + kGpuKvPageTokens - 1) / kGpuKvPageTokens;
  }
  // Rows of a sequence in pages 0, 1, ....
  void SendRows(GpuPassInputs* inputs, int64_t first_position, int64_t n_rows) {
    std::vector<GpuPassRow> rows;
    for (int64_t i = 0; i < n_rows; ++i) {
      const auto position = static_cast<int32_t>(first_position + i);
      rows.push_back({0, position, position});
    }
    const GpuPassSegment segment{0, static_cast<int32_t>(n_rows),
                                 static_cast<int32_t>(first_position), 0};
    std::vector<int32_t> pages(static_cast<size_t>(PagesOf(bench_.context)));
    std::iota(pages.begin(), pages.end(), 0);
    const GpuPassClass only{rows, {&segment, 1}};
    inputs->Set({&only, 1}, pages);
    inputs->SendPages(stream_);
    inputs->SendRows(stream_);
  }
  static double LayerBytes(const AttentionShape& bench) {
    return 2.0 * static_cast<double>(bench.context * RowBytes(bench.dtype, bench.kv_dim()));
  }
  static int64_t LayersOf(const AttentionShape& bench) {
    constexpr double kMostLayers = 512;
    const double fitting = static_cast<double>(GpuChainBytes()) / LayerBytes(bench);
    return static_cast<int64_t>(std::clamp(fitting, 1.0, kMostLayers));
  }
  const float* RowOf(const std::vector<float>& values, int64_t position, int64_t kv_head) const {
    return values.data() + position * bench_.kv_dim() + kv_head * bench_.head_dim;
  }
  void VerifyHead(int64_t head, const std::vector<float>& out) const;

  AttentionShape bench_;
  int64_t n_layers_;
  std::vector<float> k_values_;
  std::vector<float> v_values_;
  std::vector<float> q_values_;
  DeviceMemory q_;
  GpuKvCache cache_;
  GpuPassInputs inputs_;  // the last position
  DeviceMemory scratch_;
  DeviceMemory out_;
};

void AttentionChain::VerifyHead(int64_t head, const std::vector<float>& out) const {
  const int64_t kv_head = head / (bench_.n_heads / bench_.n_kv_heads);
  const float* const q = q_values_.data() + head * bench_.head_dim;
  const double scale = 1 / std::sqrt(static_cast<double>(bench_.head_dim));
  std::vector<double> weights;
  double largest = -INFINITY;
  double most = 0;  // the largest sum of |q_i k_i|, scaled
  for (int64_t p = 0; p < bench_.context; ++p) {
    const float* const k = RowOf(k_values_, p, kv_head);
    double score = 0;
    double magnitude = 0;
    for (int64_t i = 0; i < bench_.head_dim; ++i) {
      const double product = scale * q[i] * k[i];
      score += product;
      magnitude += std::fabs(product);
    }
    weights.push_back(score);
    largest = std::max(largest, score);
    most = std::max(most, magnitude);
  }
  // These roundings are of a weight, above and below the line: its score's sum, the difference to
  // the largest, e^x.
  const double units = 2 * ((static_cast<double>(bench_.head_dim) + 7) * most + 2) +
                       static_cast<double>(bench_.context) + 8;
  double sum = 0;
  for (double& weight : weights) sum += weight = std::exp(weight - largest);
  for (int64_t i = 0; i < bench_.head_dim; ++i) {
    double value = 0;
    double magnitude = 0;
    for (int64_t p = 0; p < bench_.context; ++p) {
      const double term = weights[static_cast<size_t>(p)] / sum * RowOf(v_values_, p, kv_head)[i];
      value += term;
      magnitude += std::fabs(term);
    }
    ExpectNear(out[static_cast<size_t>(head * bench_.head_dim + i)],
               {value, units * 0x1p-24 * magnitude});
  }
}

// x goes to the host, whose thread answers with y = -x / 2: every round trip halves x, exactly.
class HandoverChain final : public GpuChain {
 public:
  HandoverChain(const std::string& name, Stream& stream, int64_t d_model)
      : GpuChain(name, stream),
        d_model_(d_model),
        x_values_(NormalValues(d_model, 10)),
        x_(UploadToGpu(stream, x_values_)),
        handover_(stream, {1, d_model}, kTimeoutMs),
        host_([this](const std::stop_token& stop) { Answer(stop); }) {}
  Shape shape() const override { return {kLinks, 0, 0, true}; }
  void Enqueue() override {
    for (int i = 0; i < kLinks; ++i) {
      handover_.Publish(stream_, x_.as<float>(), 1);
      handover_.Await(stream_, i);
      handover_.Merge(stream_, x_.as<float>(), nullptr, 1);
    }
  }
  void Verify() override {
    handover_.ThrowIfLost();
    const std::vector<float> x = DownloadFromGpu<float>(stream_, x_);
    for (size_t i = 0; i < x.size(); ++i) {
      ExpectNear(x[i], {std::ldexp(double{x_values_[i]}, -kLinks), 0});
    }
  }

 private:
  static constexpr int kLinks = 16;
  static constexpr uint32_t kTimeoutMs = 10'000;
  void Answer(const std::stop_token& stop) const {
    for (uint32_t number = 1; !stop.stop_requested();) {
      if (handover_.Published() != number) {
        if (GpuIsEmulated()) std::this_thread::yield();
        continue;
      }
      for (int64_t i = 0; i < d_model_; ++i) handover_.y()[i] = -0.5F * handover_.x()[i];
      handover_.Answer(number++);
    }
  }

  int64_t d_model_;
  std::vector<float> x_values_;
  DeviceMemory x_;
  GpuHandover handover_;
  std::jthread host_;
};

}  // namespace

void RegisterGpuTokenCases() {
  const bool small = GpuIsEmulated();
  for (const DType dtype : {DType::kF16, DType::kQ8_0}) {
    for (const int64_t context : {1024, 4096, 16384}) {
      const AttentionShape bench{dtype, small ? context / 32 : context, small ? 8 : 32,
                                 small ? 2 : 8, small ? 32 : 128};
      AddGpuCase(fmt::format("gpu/attention/{}/context:{}", DTypeName(dtype), bench.context),
                 [bench](const std::string& name, Stream& stream) {
                   return std::make_unique<AttentionChain>(name, stream, bench);
                 });
    }
  }
  const int64_t d_model = small ? 96 : 4096;
  AddGpuCase(fmt::format("gpu/handover/d_model:{}", d_model),
             [d_model](const std::string& name, Stream& stream) {
               return std::make_unique<HandoverChain>(name, stream, d_model);
             });
}

}  // namespace thermocline
