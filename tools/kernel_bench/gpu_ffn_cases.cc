// A layer's FFN on the GPU for one token: gate and up, and down, of neurons of which a share fires;
// and the list that a predictor's scores make.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "gpu_kernels/products/activations.h"
#include "gpu_kernels/products/ffn.h"
#include "gpu_kernels/products/neuron_list.h"
#include "tools/kernel_bench/gpu_chain.h"

namespace thermocline {
namespace {

struct FfnCase {
  DType dtype;
  int64_t n_neurons;  // the hot ones
  int64_t d_model;
  int percent;  // share of the neurons that fires
};

// Says which neurons fire; the first always does.
std::vector<bool> Firing(const FfnCase& bench) {
  std::mt19937 rng(4);
  std::bernoulli_distribution fires(bench.percent / 100.0);
  std::vector<bool> firing(static_cast<size_t>(bench.n_neurons));
  for (size_t i = 0; i < firing.size(); ++i) firing[i] = fires(rng) || i == 0;
  return firing;
}

double RowBytesOf(const FfnCase& bench) {
  return static_cast<double>(GpuRowBytes(bench.dtype, bench.d_model));
}
double CountOf(const std::vector<bool>& firing) {
  return static_cast<double>(std::count(firing.begin(), firing.end(), true));
}

// Biases, not inputs, decide who fires. A link reads every gate row, and the up rows of the neurons
// that fire.
class GateUpChain final : public GpuChain {
 public:
  GateUpChain(const std::string& name, Stream& stream, const FfnCase& bench)
      : GpuChain(name, stream),
        bench_(bench),
        firing_(Firing(bench)),
        weights_(stream, bench.dtype, bench.n_neurons, bench.d_model, 2),
        x_(UploadToGpu(stream, weights_.x())),
        bias_(UploadToGpu(stream, Biases())),
        vectors_memory_(GpuVectorsBytes(bench.d_model, 1), "a bench's vector"),
        vectors_(MakeGpuVectors(vectors_memory_.as<void>(), bench.d_model, 1)),
        h_(static_cast<uint64_t>(n_links() * bench.n_neurons) * sizeof(float), "a bench's h") {
    GpuPrepare(stream, x_.as<float>(), 1, PrepareOp::kCopy, vectors_);
    stream.Fill(h_.as<void>(), 0xff, h_.size());
  }
  Shape shape() const override {
    return {n_links(),
            RowBytesOf(bench_) * (static_cast<double>(bench_.n_neurons) + CountOf(firing_)), 0,
            true};
  }
  void Enqueue() override {
    for (int64_t i = 0; i < n_links(); ++i) {
      GpuFfnGateUp(stream_,
                   {weights_.at(2 * i),
                    weights_.at(2 * i + 1),
                    bias_.as<float>(),
                    nullptr,
                    {Activation::kRelu}},
                   GpuSkip::kInactive, {}, vectors_, 1, h_.as<float>() + i * bench_.n_neurons);
    }
  }
  void Verify() override {
    const std::vector<float> h = DownloadFromGpu<float>(stream_, h_);
    for (size_t i = 0; i < h.size(); ++i) {
      const size_t neuron = i % firing_.size();
      if (!firing_[neuron]) {
        ExpectNear(h[i], {0, 0});
        continue;
      }
      // Gate and up are the same row here.
      const DotReference& row = dots_[neuron % kDistinctRows];
      const double act = row.value + kBias;
      const double allowed = row.allowed * (std::fabs(row.value) + row.allowed) +
                             std::fabs(act) * row.allowed + std::fabs(act * row.value) * 0x1p-21;
      ExpectNear(h[i], {act * row.value, allowed});
    }
  }

 private:
  int64_t n_links() const { return weights_.size() / 2; }
  // The bias is larger than any product of these rows with x.
  static constexpr float kBias = 4096;
  std::vector<float> Biases() {
    for (int64_t r = 0; r < kDistinctRows; ++r) {
      dots_.push_back(ReferenceDot(weights_.row(r).data(), weights_.x().data(), bench_.d_model,
                                   DecodeRounding(bench_.dtype)));
    }
    std::vector<float> biases;
    for (const bool fires : firing_) biases.push_back(fires ? kBias : -kBias);
    return biases;
  }

  FfnCase bench_;
  std::vector<bool> firing_;
  GpuMatrices weights_;
  std::vector<DotReference> dots_;
  DeviceMemory x_;
  DeviceMemory bias_;
  DeviceMemory vectors_memory_;
  GpuVectors vectors_;
  DeviceMemory h_;
};

// Reads the rows whose h is not 0.
class DownChain final : public GpuChain {
 public:
  DownChain(const std::string& name, Stream& stream, const FfnCase& bench)
      : GpuChain(name, stream),
        bench_(bench),
        firing_(Firing(bench)),
        weights_(stream, bench.dtype, bench.n_neurons, bench.d_model),
        workspace_(GpuFfnDownBytes(weights_.at(0), 1), "a bench's workspace"),
        y_(static_cast<uint64_t>(weights_.size() * bench.d_model) * sizeof(float),
           "a bench's result") {
    std::mt19937 rng(5);
    std::uniform_real_distribution<float> uniform(-1, 1);
    for (const bool fires : firing_) h_values_.push_back(fires ? uniform(rng) : 0.0F);
    h_ = UploadToGpu(stream, h_values_);
    stream.Fill(y_.as<void>(), 0xff, y_.size());
  }
  Shape shape() const override {
    return {weights_.size(), RowBytesOf(bench_) * CountOf(firing_), 0, true};
  }
  void Enqueue() override {
    for (int64_t i = 0; i < weights_.size(); ++i) {
      GpuFfnDown(stream_, weights_.at(i), GpuSkip::kInactive, h_.as<float>(), 1,
                 workspace_.as<void>(), y_.as<float>() + i * bench_.d_model, nullptr);
    }
  }
  void Verify() override {
    const std::vector<float> y = DownloadFromGpu<float>(stream_, y_);
    std::vector<double> times(kDistinctRows, 0.0);
    std::vector<double> magnitudes(kDistinctRows, 0.0);
    for (size_t i = 0; i < h_values_.size(); ++i) {
      times[i % kDistinctRows] += h_values_[i];
      magnitudes[i % kDistinctRows] += std::fabs(h_values_[i]);
    }
    const double terms = CountOf(firing_) + 32;
    for (int64_t c = 0; c < bench_.d_model; ++c) {
      double value = 0;
      double magnitude = 0;
      for (size_t d = 0; d < kDistinctRows; ++d) {
        const double w = weights_.row(static_cast<int64_t>(d))[static_cast<size_t>(c)];
        value += times[d] * w;
        magnitude += magnitudes[d] * std::fabs(w);
      }
      for (int64_t i = 0; i < weights_.size(); ++i) {
        ExpectNear(y[static_cast<size_t>(i * bench_.d_model + c)],
                   {value, terms * 0x1p-24 * magnitude});
      }
    }
  }

 private:
  FfnCase bench_;
  std::vector<bool> firing_;
  GpuMatrices weights_;
  std::vector<float> h_values_;
  DeviceMemory h_;
  DeviceMemory workspace_;
  DeviceMemory y_;
};

// A tenth of the scores is above the threshold.
class ListChain final : public GpuChain {
 public:
  ListChain(const std::string& name, Stream& stream, int64_t n_neurons)
      : GpuChain(name, stream),
        n_neurons_(n_neurons),
        rows_(static_cast<uint64_t>(n_neurons) * sizeof(int32_t), "a bench's list"),
        masks_(static_cast<uint64_t>(n_neurons) * sizeof(uint32_t), "a bench's list"),
        counts_(2 * sizeof(int32_t), "a bench's list") {
    std::mt19937 rng(6);
    std::uniform_real_distribution<float> uniform(-9, 1);
    for (int64_t i = 0; i < n_neurons; ++i) {
      scores_.push_back(uniform(rng));
      if (scores_.back() > 0) expected_.push_back(static_cast<int32_t>(i));
    }
    scores_device_ = UploadToGpu(stream, scores_);
  }
  Shape shape() const override { return {kLinks, 0, 0, true}; }
  void Enqueue() override {
    for (int i = 0; i < kLinks; ++i) {
      GpuListNeurons(stream_, scores_device_.as<float>(), 1, n_neurons_, 0,
                     {rows_.as<int32_t>(), counts_.as<int32_t>(), masks_.as<uint32_t>()},
                     counts_.as<int32_t>() + 1);
    }
  }
  void Verify() override {
    const std::vector<int32_t> rows = DownloadFromGpu<int32_t>(stream_, rows_);
    const std::vector<uint32_t> masks = DownloadFromGpu<uint32_t>(stream_, masks_);
    for (const int32_t count : DownloadFromGpu<int32_t>(stream_, counts_)) {
      ExpectNear(count, {static_cast<double>(expected_.size()), 0});
    }
    for (size_t i = 0; i < expected_.size(); ++i) {
      ExpectNear(rows[i], {static_cast<double>(expected_[i]), 0});
      ExpectNear(masks[i], {1, 0});
    }
  }

 private:
  static constexpr int kLinks = 32;
  int64_t n_neurons_;
  std::vector<float> scores_;
  std::vector<int32_t> expected_;
  DeviceMemory scores_device_;
  DeviceMemory rows_;
  DeviceMemory masks_;
  DeviceMemory counts_;  // listed, wanted
};

}  // namespace

void RegisterGpuFfnCases() {
  const bool small = GpuIsEmulated();
  for (const DType dtype : kWeightDTypes) {
    if (dtype == DType::kBF16 || dtype == DType::kF32) continue;
    if (!GetWeightTypeInfo(dtype).written) continue;
    for (const int percent : {5, 10, 20, 50, 100}) {
      const FfnCase bench{dtype, small ? 75 : 11008, small ? 256 : 4096, percent};
      const auto name = [&](const char* part) {
        return fmt::format("gpu/{}/{}/density:{}", part, DTypeName(dtype), percent);
      };
      AddGpuCase(name("gate_up"), [bench](const std::string& n, Stream& stream) {
        return std::make_unique<GateUpChain>(n, stream, bench);
      });
      AddGpuCase(name("down"), [bench](const std::string& n, Stream& stream) {
        return std::make_unique<DownChain>(n, stream, bench);
      });
    }
  }
  const int64_t n_neurons = small ? 700 : 11008;
  AddGpuCase(fmt::format("gpu/list/neurons:{}", n_neurons),
             [n_neurons](const std::string& name, Stream& stream) {
               return std::make_unique<ListChain>(name, stream, n_neurons);
             });
}

}  // namespace thermocline
