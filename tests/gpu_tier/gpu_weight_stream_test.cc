// One slice streamed to the GPU and multiplied there, against sums in double: every type, pieces of
// every size, packing that fails, a GPU that does not come.
#include "runtime/device/gpu/gpu_weight_stream.h"

#include <gmock/gmock.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <thread>

#include "cpu_kernels/kernels.h"
#include "runtime/core/error.h"
#include "runtime/core/half.h"
#include "runtime/device/gpu/gpu_rows.h"
#include "tests/gpu_kernels/random_values.h"
#include "tests/gpu_tier/gpu_tier_fixture.h"

namespace thermocline {
namespace {

constexpr int64_t kTokens = 18;
constexpr int64_t kDModel = 256;

// Rows as a file stores them, with gaps between, and what the GPU multiplies.
struct Matrix {
  Matrix(DType dtype, int64_t rows, uint32_t seed) {
    constexpr int64_t kGap = 6;
    const int64_t stride = RowBytes(dtype, kDModel) + kGap;
    file.resize(static_cast<size_t>(rows * stride));
    const auto values = RandomValues(static_cast<size_t>(rows * kDModel), seed);
    weights.resize(values.size());
    for (int64_t r = 0; r < rows; ++r) {
      std::byte* const row = file.data() + r * stride;
      float* const decoded = weights.data() + r * kDModel;
      QuantizeRow(dtype, values.data() + r * kDModel, kDModel, row);
      CpuKernels().dequantize_f32(dtype, row, 0, kDModel, decoded);
      for (int64_t c = 0; c < kDModel && dtype != DType::kF32; ++c) {
        decoded[c] = F16ToF32(F32ToF16(decoded[c]));
      }
    }
    view = {file.data(), dtype, rows, kDModel, stride};
  }
  double at(int64_t row, int64_t col) const {
    return weights[static_cast<size_t>(row * kDModel + col)];
  }

  std::vector<std::byte> file;
  std::vector<float> weights;
  TensorView view;
};

struct Types {
  DType gate, up, down;
};

class TestSlice {
 public:
  TestSlice(const Types& types, int64_t n_neurons, bool biased, bool plain = false)
      : gate_(types.gate, n_neurons, 1),
        up_(types.up, n_neurons, 2),
        down_(types.down, n_neurons, 3) {
    if (biased) bias_ = RandomValues(static_cast<size_t>(n_neurons), 4);
    if (biased && !plain) up_bias_ = RandomValues(static_cast<size_t>(n_neurons), 8);
    slice_.n_neurons = n_neurons;
    slice_.gate = gate_.view;
    if (!plain) slice_.up = up_.view;
    slice_.down = down_.view;
    slice_.gate_bias = bias_.empty() ? nullptr : bias_.data();
    slice_.up_bias = up_bias_.empty() ? nullptr : up_bias_.data();
  }
  const FfnSlice& slice() const { return slice_; }

  // Compares y with sums in double of what is multiplied. A product of n terms is off by less than
  // (n + 2) 2^-23 times the sum of magnitudes, and h of a type that is not F32 is rounded to 11
  // bits.
  void ExpectOutput(const std::vector<float>& x, const std::vector<float>& before,
                    const std::vector<float>& y) const {
    for (int64_t t = 0; t < kTokens; ++t) {
      const auto hidden = Hidden(x.data() + t * kDModel);
      for (int64_t c = 0; c < kDModel; ++c) {
        const auto at = static_cast<size_t>(t * kDModel + c);
        double sum = before[at];
        double magnitudes = std::abs(sum);
        double error = 0;
        for (int64_t i = 0; i < slice_.n_neurons; ++i) {
          const auto& [h, h_error] = hidden[static_cast<size_t>(i)];
          sum += h * down_.at(i, c);
          magnitudes += std::abs(h * down_.at(i, c));
          error += h_error * std::abs(down_.at(i, c));
        }
        error += 2 * static_cast<double>(slice_.n_neurons + 2) * 0x1p-23 * magnitudes;
        ASSERT_NEAR(y[at], sum, error) << "token " << t << ", column " << c;
      }
    }
  }

 private:
  struct Value {
    double value;
    double error;
  };
  static Value Dot(const Matrix& w, int64_t row, const float* x) {
    double sum = 0;
    double magnitudes = 0;
    for (int64_t c = 0; c < kDModel; ++c) {
      const bool exact = w.view.dtype == DType::kF32;
      const double product = w.at(row, c) * (exact ? x[c] : F16ToF32(F32ToF16(x[c])));
      sum += product;
      magnitudes += std::abs(product);
    }
    return {sum, static_cast<double>(kDModel + 2) * 0x1p-23 * magnitudes};
  }
  std::vector<Value> Hidden(const float* x) const {
    std::vector<Value> hidden;
    for (int64_t i = 0; i < slice_.n_neurons; ++i) {
      const Value gate = Dot(gate_, i, x);
      Value up = slice_.is_gated() ? Dot(up_, i, x) : Value{1, 0};
      if (!up_bias_.empty()) up.value += up_bias_[static_cast<size_t>(i)];
      up.error += 0x1p-23 * std::abs(up.value);
      const double bias = bias_.empty() ? 0 : bias_[static_cast<size_t>(i)];
      const double active = std::max(0.0, gate.value + bias);
      const double h = active * up.value;
      const double error =
          (gate.error + 0x1p-23 * std::abs(bias)) * (std::abs(up.value) + up.error) +
          active * up.error + 0x1p-23 * std::abs(h);
      const double rounding = down_.view.dtype == DType::kF32 ? 0 : 0x1p-11;
      hidden.push_back({h, error + rounding * (std::abs(h) + error) + 0x1p-24});
    }
    return hidden;
  }

  Matrix gate_;
  Matrix up_;
  Matrix down_;
  std::vector<float> bias_;
  std::vector<float> up_bias_;
  FfnSlice slice_;
};

class GpuWeightStreamTest : public GpuTier {
 protected:
  void SetUp() override {
    GpuTier::SetUp();
    if (IsSkipped()) return;
    const GgufReader gguf(Golden("gqa_relu"));
    config_ = ReadModelConfig(gguf, FindFamily(gguf));
    config_.d_model = kDModel;
    gpu_ = std::make_unique<GpuDevice>("gpu", config_, GpuDeviceLimits{kTokens, 64, 8});
    const auto room = [&] {
      return static_cast<float*>(gpu_->Allocate(kTokens * kDModel * sizeof(float), "a test"));
    };
    x_ = room();
    y_ = room();
    gpu_->Upload(x_, values_.data(), values_.size() * sizeof(float));
  }

  std::unique_ptr<WeightStream> Make(int64_t max_neurons, uint64_t piece_bytes,
                                     uint32_t timeout_ms = 60'000) {
    return gpu_->MakeWeightStream({kTokens, kDModel, max_neurons, piece_bytes, timeout_ms});
  }
  std::vector<float> Run(WeightStream& stream, const FfnSlice& slice, WeightStream::Into into,
                         const std::vector<float>& before = {}) {
    if (!before.empty()) gpu_->Upload(y_, before.data(), before.size() * sizeof(float));
    stream.BeginPass();
    stream.Ffn(team_, StepOf(slice), x_, kTokens, y_, into);
    gpu_->Finish();
    std::vector<float> y(values_.size());
    gpu_->Download(y.data(), y_, y.size() * sizeof(float));
    return y;
  }
  static FfnOp StepOf(const FfnSlice& slice) {
    return {.slice = &slice, .activation = Activation::kRelu};
  }

  ModelConfig config_;
  std::unique_ptr<GpuDevice> gpu_;
  ThreadTeam team_{3};
  std::vector<float> values_ = RandomValues(kTokens * kDModel, 5);
  float* x_ = nullptr;
  float* y_ = nullptr;
};

constexpr Types kF16 = {DType::kF16, DType::kF16, DType::kF16};
constexpr Types kMixed = {DType::kQ4_0, DType::kQ8_0, DType::kF16};

TEST_F(GpuWeightStreamTest, EveryTypeGivesTheProduct) {
  const std::vector<float> zeros(values_.size(), 0);
  for (const Types& types : {Types{DType::kF32, DType::kF32, DType::kF32}, kF16,
                             Types{DType::kBF16, DType::kBF16, DType::kBF16},
                             Types{DType::kQ8_0, DType::kQ8_0, DType::kQ8_0},
                             Types{DType::kQ4_0, DType::kQ4_0, DType::kQ4_0},
                             Types{DType::kQ6_K, DType::kQ6_K, DType::kQ6_K}, kMixed}) {
    const TestSlice slice(types, 37, types.gate == DType::kQ8_0);
    const auto stream = Make(37, 16 << 10);
    SCOPED_TRACE(DTypeName(types.gate));
    slice.ExpectOutput(values_, zeros, Run(*stream, slice.slice(), WeightStream::Into::kReplace));
  }
}

// Pieces hold from one neuron each to all of them, with room for more.
TEST_F(GpuWeightStreamTest, AnyPieceSizeAddsAllNeuronsOnce) {
  const std::vector<float> before = RandomValues(values_.size(), 6);
  for (const bool biased : {false, true}) {
    for (const int64_t n_neurons : {1, 2, 31, 32, 65}) {
      const TestSlice slice(kMixed, n_neurons, biased);
      for (const uint64_t piece_bytes : {1U, 5'001U, 20'000U, 60'000U, 8U << 20}) {
        const auto stream = Make(n_neurons + 3, piece_bytes);
        SCOPED_TRACE(testing::Message() << n_neurons << " in pieces of " << piece_bytes);
        slice.ExpectOutput(values_, before,
                           Run(*stream, slice.slice(), WeightStream::Into::kAdd, before));
      }
    }
  }
}

TEST_F(GpuWeightStreamTest, PlainFfnsHaveNoUp) {
  const std::vector<float> zeros(values_.size(), 0);
  for (const bool biased : {false, true}) {
    for (const uint64_t piece_bytes : {1U, 20'000U, 8U << 20}) {
      const TestSlice slice(kMixed, 37, biased, true);
      const auto stream = Make(37, piece_bytes);
      slice.ExpectOutput(values_, zeros, Run(*stream, slice.slice(), WeightStream::Into::kReplace));
    }
  }
}

// There are more pieces than buffers, and slices of several sizes and types one behind the other.
TEST_F(GpuWeightStreamTest, SlicesFollowEachOtherThroughTheBuffers) {
  const TestSlice first(kF16, 23, false);
  const TestSlice second(kMixed, 40, true);
  const std::vector<float> zeros(values_.size(), 0);
  const auto stream = Make(40, 4'000);
  const auto expected_first = Run(*stream, first.slice(), WeightStream::Into::kReplace);
  first.ExpectOutput(values_, zeros, expected_first);
  const auto both = [&] {
    stream->BeginPass();
    stream->Ffn(team_, StepOf(first.slice()), x_, kTokens, y_, WeightStream::Into::kReplace);
    stream->Ffn(team_, StepOf(second.slice()), x_, kTokens, y_, WeightStream::Into::kAdd);
    gpu_->Finish();
    std::vector<float> y(values_.size());
    gpu_->Download(y.data(), y_, y.size() * sizeof(float));
    return y;
  };
  const auto sum = both();
  second.ExpectOutput(values_, expected_first, sum);
  EXPECT_EQ(both(), sum);
}

TEST_F(GpuWeightStreamTest, PackingThatFailsIsOneErrorAndTheNextPassWorks) {
  const TestSlice slice(kMixed, 20, false);
  const auto stream = Make(20, 1);
  const auto expected = Run(*stream, slice.slice(), WeightStream::Into::kReplace);
  for (const int64_t failing : {0, 1, 7, 19}) {
    stream->set_row_packer([&](const TensorView& source, int64_t row, std::byte* out) {
      if (row == failing) throw Error({.what = "packing failed"});
      PackGpuRow(source, row, out);
    });
    EXPECT_THAT([&] { Run(*stream, slice.slice(), WeightStream::Into::kReplace); },
                testing::ThrowsMessage<Error>("packing failed"));
    stream->set_row_packer(PackGpuRow);
    EXPECT_EQ(Run(*stream, slice.slice(), WeightStream::Into::kReplace), expected);
  }
}

TEST_F(GpuWeightStreamTest, AGpuThatDoesNotComeIsAnErrorAndTheNextPassWorks) {
  const TestSlice slice(kMixed, 20, false);
  const auto patient = Make(20, 1);
  const auto expected = Run(*patient, slice.slice(), WeightStream::Into::kReplace);
  const auto stream = Make(20, 1, 20);
  std::atomic<bool> released = false;
  gpu_->stream().Call(
      [](void* flag) {
        while (!static_cast<std::atomic<bool>*>(flag)->load()) {
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
      },
      &released);
  EXPECT_THAT([&] { Run(*stream, slice.slice(), WeightStream::Into::kReplace); },
              testing::ThrowsMessage<Error>(testing::HasSubstr("did not arrive there")));
  released = true;
  patient->BeginPass();
  EXPECT_EQ(Run(*patient, slice.slice(), WeightStream::Into::kReplace), expected);
}

TEST_F(GpuWeightStreamTest, MemoryIsWhatBytesSays) {
  const WeightStreamLimits limits{.max_tokens = kTokens, .d_model = kDModel, .max_neurons = 100};
  const uint64_t before = gpu_->allocated_bytes() + gpu_->host_bytes();
  const uint64_t used_before = QueryDeviceMemory().free_bytes;
  const auto stream = gpu_->MakeWeightStream(limits);
  const WeightStreamBytes bytes = GpuWeightStream::Bytes(limits);
  EXPECT_EQ(gpu_->allocated_bytes() + gpu_->host_bytes() - before, bytes.device + bytes.pinned);
  EXPECT_GE(used_before, QueryDeviceMemory().free_bytes);
  // Two buffers for 100 neurons in the widest type, not for 8 MiB.
  EXPECT_LT(bytes.pinned, 2 * (3 * 100 * 4 * (kDModel + 8) + 4096));
  EXPECT_GE(bytes.pinned, 2 * 3 * 100 * 4 * kDModel);
}

TEST_F(GpuWeightStreamTest, RatesAreThoseOfTheSliceMeasured) {
  const TestSlice slice(kMixed, 65, true);
  const auto stream = Make(65, 20'000);
  EXPECT_GT(stream->ProbeNeurons(slice.slice()), 0);
  EXPECT_LE(stream->ProbeNeurons(slice.slice()), 65);
  const auto start = std::chrono::steady_clock::now();
  const StreamRates rates = stream->Measure(team_, StepOf(slice.slice()), x_, kTokens, y_);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  // Each part took less time than all of it.
  const auto n_bytes = static_cast<double>(slice.slice().weight_bytes());
  EXPECT_GE(rates.bus_bytes_per_s, n_bytes / seconds);
  EXPECT_GE(rates.gpu_token_bytes_per_s, n_bytes * kTokens / seconds);
}

}  // namespace
}  // namespace thermocline
