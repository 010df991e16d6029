#include "gpu_kernels/products/ffn.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <numeric>

#include "tests/gpu_kernels/gpu_matrix.h"
#include "tests/gpu_kernels/random_values.h"

namespace thermocline {
namespace {

using GpuFfnTest = GpuTest;

constexpr Activation kActivations[] = {Activation::kSilu, Activation::kRelu, Activation::kReluSqr,
                                       Activation::kGelu, Activation::kGeluTanh};

double Activated(Activation activation, double x) {
  const double positive = std::max(x, 0.0);
  switch (activation) {
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    case Activation::kRelu:
      return positive;
    case Activation::kReluSqr:
      return positive * positive;
    case Activation::kGelu:
      return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case Activation::kGeluTanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x)));
  }
  return x;
}

// How much act(x) changes at most where x changes by `error`, and its own roundings: those of a
// GELU's 1 + erf or 1 + tanh are of 1, also where these nearly cancel.
double ActivationError(Activation activation, double x, double error) {
  const double slope = activation == Activation::kReluSqr ? 2 * (std::fabs(x) + error) : 1.2;
  const bool gelu = activation == Activation::kGelu || activation == Activation::kGeluTanh;
  const double of_one = gelu ? std::fabs(x) * 0x1p-21 : 0;
  return slope * error + std::fabs(Activated(activation, x)) * 0x1p-21 + of_one;
}

std::vector<int32_t> EveryNeuron(int64_t m) {
  std::vector<int32_t> rows(static_cast<size_t>(m));
  std::iota(rows.begin(), rows.end(), 0);
  return rows;
}

// The neurons of a layer that a test has on the GPU.
struct Layer {
  TestMatrix gate;
  TestMatrix up;
  TestMatrix down;
  std::vector<float> gate_bias;
  std::vector<float> up_bias;
  bool plain = false;       // there is no up
  bool has_up_bias = true;  // else up_bias stays on the host
  bool relu_up = false;
  float threshold = 0;
  // (n_tokens, m) what is added before the activation, where it is; the gates' lies in h.
  std::vector<float> gate_added;
  std::vector<float> up_added;
  std::vector<float> gates;  // (n_tokens, m) where they are known

  Layer(DType dtype, int64_t m, int64_t d_model)
      : gate(dtype, m, d_model, 1),
        up(dtype, m, d_model, 2),
        down(dtype, m, d_model, 3),
        gate_bias(RandomValues(static_cast<size_t>(m), 4)),
        up_bias(RandomValues(static_cast<size_t>(m), 13)) {}

  void Upload(Stream& stream) {
    gate.Upload(stream);
    up.Upload(stream);
    down.Upload(stream);
  }
};

// Which tokens want a neuron of those listed, as bits; never none.
uint32_t WantedMask(int32_t neuron) { return 1 + static_cast<uint32_t>(neuron * 37 % 511); }

// A list on the GPU; `all` neurons: no list.
class ListOnDevice {
 public:
  ListOnDevice(Stream& stream, const std::vector<int32_t>& rows, int64_t m)
      : all_(static_cast<int64_t>(rows.size()) == m),
        rows_(stream, WithOthers(rows, m)),
        count_(stream, {static_cast<int32_t>(rows.size())}),
        masks_(stream, Masks(rows, m)) {}
  GpuNeuronList list() const {
    return all_ ? GpuNeuronList{} : GpuNeuronList{rows_.data(), count_.data(), masks_.data()};
  }

 private:
  static std::vector<int32_t> WithOthers(std::vector<int32_t> rows, int64_t m) {
    const std::vector<int32_t> listed = rows;
    for (int32_t i = 0; i < m; ++i) {
      if (!std::ranges::binary_search(listed, i)) rows.push_back(i);
    }
    return rows;
  }
  // What is behind the end of a list counts for nothing.
  static std::vector<uint32_t> Masks(const std::vector<int32_t>& rows, int64_t m) {
    std::vector<uint32_t> masks(static_cast<size_t>(m), ~uint32_t{0});
    std::ranges::transform(rows, masks.begin(), WantedMask);
    return masks;
  }
  bool all_;
  OnDevice<int32_t> rows_;
  OnDevice<int32_t> count_;
  OnDevice<uint32_t> masks_;
};

std::vector<float> GateUp(Stream& stream, const Layer& layer, Activation activation, GpuSkip skip,
                          const std::vector<int32_t>& rows, const TestVectors& x,
                          int64_t n_tokens) {
  const int64_t m = layer.gate.rows();
  const OnDevice<float> bias(stream, layer.gate_bias);
  const bool adds = !layer.gate_added.empty();
  const std::vector<float> nothing(static_cast<size_t>(n_tokens * m), kNan);
  const bool known = !layer.gates.empty();
  const OnDevice<float> h(stream, known ? layer.gates : adds ? layer.gate_added : nothing);
  const OnDevice<float> up_added(stream, adds ? layer.up_added : nothing);
  const OnDevice<float> up_bias(stream, layer.up_bias);
  const ListOnDevice list(stream, rows, m);
  const GpuGateUp weights{layer.gate.gpu(),
                          layer.plain ? GpuMatrix{} : layer.up.gpu(),
                          bias.data(),
                          layer.has_up_bias ? up_bias.data() : nullptr,
                          {activation, layer.threshold, layer.relu_up},
                          adds ? h.data() : nullptr,
                          adds ? up_added.data() : nullptr,
                          known ? h.data() : nullptr};
  GpuFfnGateUp(stream, weights, skip, list.list(), x.gpu(), n_tokens, h.data());
  return h.Read();
}

// h of one neuron, and how far it may be off.
Expected ExpectedH(const Layer& layer, Activation activation, int64_t token, int64_t neuron,
                   const std::vector<double>& x) {
  const auto at = static_cast<size_t>(token * layer.gate.rows() + neuron);
  Expected gate = ExpectedDot(layer.gate, neuron, x);
  gate.value += layer.gate_bias[static_cast<size_t>(neuron)];
  gate.error += std::fabs(gate.value) * 0x1p-23;
  if (!layer.gate_added.empty()) {
    gate.value += layer.gate_added[at];
    gate.error += std::fabs(gate.value) * 0x1p-23;
  }
  if (!layer.gates.empty()) gate = {layer.gates[at], 0};
  const bool below = layer.threshold > 0 && gate.value < layer.threshold;
  const double act = below ? 0 : Activated(activation, gate.value);
  const double act_error = ActivationError(activation, gate.value, gate.error);
  if (layer.plain) return {act, act_error};
  Expected up = ExpectedDot(layer.up, neuron, x);
  if (layer.has_up_bias) up.value += layer.up_bias[static_cast<size_t>(neuron)];
  up.error += std::fabs(up.value) * 0x1p-23;
  if (!layer.up_added.empty()) {
    up.value += layer.up_added[at];
    up.error += std::fabs(up.value) * 0x1p-23;
  }
  if (layer.relu_up) up.value = std::max(up.value, 0.0);
  const double error = act_error * (std::fabs(up.value) + up.error) + std::fabs(act) * up.error;
  return {act * up.value, error + std::fabs(act * up.value) * 0x1p-23};
}

void ExpectGateUp(const Layer& layer, Activation activation, const std::vector<int32_t>& rows,
                  const TestVectors& x, const std::vector<float>& h, int64_t n_tokens) {
  const auto m = static_cast<size_t>(layer.gate.rows());
  for (int64_t t = 0; t < n_tokens; ++t) {
    const std::vector<double> seen = x.Seen(layer.gate.dtype(), t);
    for (size_t i = 0; i < m; ++i) {
      const auto neuron = static_cast<int32_t>(i);
      const float found = h[static_cast<size_t>(t) * m + i];
      const bool wanted = rows.size() == m || (std::ranges::binary_search(rows, neuron) &&
                                               (WantedMask(neuron) >> t & 1) != 0);
      if (!wanted) {
        ASSERT_EQ(found, 0) << "neuron " << i << " is not for token " << t;
        continue;
      }
      const Expected expected = ExpectedH(layer, activation, t, neuron, seen);
      ASSERT_NEAR(found, expected.value, expected.error)
          << DTypeName(layer.gate.dtype()) << ", neuron " << i << ", token " << t;
    }
  }
}

TEST_F(GpuFfnTest, GateAndUpEqualTheReference) {
  size_t turn = 0;
  for (const DType dtype : KernelTypes()) {
    // Of most types one in turn: that is no matter of the type.
    std::vector<Activation> activations = {kActivations[turn++ % std::size(kActivations)]};
    if (dtype == DType::kF32) activations.assign(std::begin(kActivations), std::end(kActivations));
    for (const Activation activation : activations) {
      InEveryOrder([=] {
        Stream stream;
        Layer layer(dtype, 37, testing::WholeBlocks(dtype, 544));
        layer.has_up_bias = turn % 2 == 0;
        layer.Upload(stream);
        const TestVectors x(stream, layer.gate.cols(), 1, 5);
        const std::vector<int32_t> all = EveryNeuron(37);
        const auto h = GateUp(stream, layer, activation, GpuSkip::kNothing, all, x, 1);
        ExpectGateUp(layer, activation, all, x, h, 1);
        EXPECT_EQ(GateUp(stream, layer, activation, GpuSkip::kInactive, all, x, 1), h);
      });
    }
  }
}

TEST_F(GpuFfnTest, GateAndUpOfSeveralTokensAndOfLists) {
  for (const DType dtype : KernelTypes()) {
    for (const int64_t n_tokens : {2, 3, 8, 9}) {
      Stream stream;
      Layer layer(dtype, 21, testing::WholeBlocks(dtype, 96));
      layer.Upload(stream);
      const TestVectors x(stream, layer.gate.cols(), n_tokens, 6);
      for (const std::vector<int32_t>& rows :
           {std::vector<int32_t>{}, {0, 3, 4, 11, 20}, {20}, EveryNeuron(21)}) {
        for (const GpuSkip skip : {GpuSkip::kNothing, GpuSkip::kInactive}) {
          const auto h = GateUp(stream, layer, Activation::kRelu, skip, rows, x, n_tokens);
          ExpectGateUp(layer, Activation::kRelu, rows, x, h, n_tokens);
        }
      }
    }
  }
}

// Gates below a threshold become 0, and ups below 0.
TEST_F(GpuFfnTest, ThresholdsOfGatesAndReluOfUps) {
  for (const int64_t n_tokens : {1, 3}) {
    Stream stream;
    Layer layer(DType::kQ8_0, 64, 96);
    layer.relu_up = true;
    layer.threshold = 0.2F;
    layer.Upload(stream);
    const TestVectors x(stream, 96, n_tokens, 6);
    // Of numbers next to the threshold it cannot be said which they are.
    for (int64_t t = 0; t < n_tokens; ++t) {
      for (int64_t i = 0; i < 64; ++i) {
        const Expected gate = ExpectedDot(layer.gate, i, x.Seen(DType::kQ8_0, t));
        const double value = gate.value + layer.gate_bias[static_cast<size_t>(i)];
        ASSERT_GT(std::fabs(value - 0.2), 2 * gate.error) << "choose another seed";
      }
    }
    const std::vector<int32_t> all = EveryNeuron(64);
    const auto h = GateUp(stream, layer, Activation::kRelu, GpuSkip::kInactive, all, x, n_tokens);
    ExpectGateUp(layer, Activation::kRelu, all, x, h, n_tokens);
    EXPECT_EQ(GateUp(stream, layer, Activation::kRelu, GpuSkip::kNothing, all, x, n_tokens), h);
    EXPECT_GT(std::ranges::count(h, 0.0F), n_tokens * 64 / 2);
  }
}

// What is added comes before the activation: it decides which neurons are active.
TEST_F(GpuFfnTest, AddsToGatesAndUpsOfEachToken) {
  for (const DType dtype : {DType::kF32, DType::kQ4_K}) {
    for (const int64_t n_tokens : {1, 3, 9}) {
      InEveryOrderIf(n_tokens == 3, [=] {
        Stream stream;
        Layer layer(dtype, 21, testing::WholeBlocks(dtype, 96));
        layer.gate_added = RandomValues(static_cast<size_t>(n_tokens * 21), 17);
        layer.up_added = RandomValues(static_cast<size_t>(n_tokens * 21), 18);
        layer.Upload(stream);
        const TestVectors x(stream, layer.gate.cols(), n_tokens, 6);
        for (const std::vector<int32_t>& rows :
             {std::vector<int32_t>{0, 3, 4, 11, 20}, EveryNeuron(21)}) {
          const auto h =
              GateUp(stream, layer, Activation::kRelu, GpuSkip::kNothing, rows, x, n_tokens);
          ExpectGateUp(layer, Activation::kRelu, rows, x, h, n_tokens);
          EXPECT_EQ(GateUp(stream, layer, Activation::kRelu, GpuSkip::kInactive, rows, x, n_tokens),
                    h);
        }
      });
    }
  }
}

// What is known of gates is not read of weights, nor has it a bias to come.
TEST_F(GpuFfnTest, TakesGatesThatAreKnown) {
  constexpr int64_t kNeurons = 21;
  for (const DType dtype : {DType::kF32, DType::kQ4_K}) {
    for (const int64_t n_tokens : {1, 3, 9}) {
      InEveryOrderIf(n_tokens == 3, [=] {
        Stream stream;
        Layer layer(dtype, kNeurons, testing::WholeBlocks(dtype, 96));
        layer.gates = RandomValues(static_cast<size_t>(n_tokens * kNeurons), 17);
        for (int64_t i = 0; HasNan(dtype) && i < kNeurons; ++i) layer.gate.SpoilRow(i);
        layer.Upload(stream);
        const TestVectors x(stream, layer.gate.cols(), n_tokens, 6);
        const std::vector<int32_t> all = EveryNeuron(kNeurons);
        const auto h =
            GateUp(stream, layer, Activation::kRelu, GpuSkip::kNothing, all, x, n_tokens);
        ExpectGateUp(layer, Activation::kRelu, all, x, h, n_tokens);
        EXPECT_EQ(GateUp(stream, layer, Activation::kRelu, GpuSkip::kInactive, all, x, n_tokens),
                  h);
      });
    }
  }
}

// A plain FFN: for one token and several, all neurons and those listed, with whatever activation.
TEST_F(GpuFfnTest, GatesOfPlainFfnsEqualTheReference) {
  size_t turn = 0;
  for (const DType dtype : KernelTypes()) {
    for (const int64_t n_tokens : {1, 3, 9}) {
      const Activation activation = kActivations[turn++ % std::size(kActivations)];
      InEveryOrderIf(turn % 7 == 0, [=] {
        Stream stream;
        Layer layer(dtype, 21, testing::WholeBlocks(dtype, 96));
        layer.plain = true;
        layer.Upload(stream);
        const TestVectors x(stream, layer.gate.cols(), n_tokens, 6);
        for (const std::vector<int32_t>& rows :
             {std::vector<int32_t>{0, 3, 4, 11, 20}, EveryNeuron(21)}) {
          const auto h = GateUp(stream, layer, activation, GpuSkip::kNothing, rows, x, n_tokens);
          ExpectGateUp(layer, activation, rows, x, h, n_tokens);
          EXPECT_EQ(GateUp(stream, layer, activation, GpuSkip::kInactive, rows, x, n_tokens), h);
        }
      });
    }
  }
}

// Rows of neurons that are not listed are not read, nor is the gate's outcome for a token that does
// not want it a reason to read its up row.
TEST_F(GpuFfnTest, ReadsOnlyWhatAnyTokenWants) {
  for (const DType dtype : KernelTypes()) {
    if (!HasNan(dtype)) continue;
    Stream stream;
    Layer layer(dtype, 64, testing::WholeBlocks(dtype, 96));
    const TestVectors x(stream, layer.gate.cols(), 2, 7);
    std::vector<int32_t> rows;
    for (int32_t i = 0; i < 64; ++i) {
      const uint32_t mask = WantedMask(i) & 3;
      bool fires = false;
      for (int64_t t = 0; t < 2; ++t) {
        const Expected gate = ExpectedDot(layer.gate, i, x.Seen(dtype, t));
        const bool fires_here =
            gate.value + layer.gate_bias[static_cast<size_t>(i)] > -gate.error - 1e-6;
        fires |= fires_here && (mask >> t & 1) != 0;
      }
      if (i % 3 == 0) {
        layer.gate.SpoilRow(i);
      } else {
        rows.push_back(i);
      }
      if (i % 3 == 0 || !fires) layer.up.SpoilRow(i);
    }
    layer.Upload(stream);
    for (const float h : GateUp(stream, layer, Activation::kRelu, GpuSkip::kInactive, rows, x, 2)) {
      ASSERT_FALSE(std::isnan(h));
    }
  }
}

// Up rows that must not be read are NaN.
TEST_F(GpuFfnTest, ReadsUpOnlyWhereTheGateFires) {
  for (const DType dtype : KernelTypes()) {
    if (!HasNan(dtype)) continue;
    Stream stream;
    Layer layer(dtype, 64, testing::WholeBlocks(dtype, 96));
    const TestVectors x(stream, layer.gate.cols(), 2, 7);
    int n_spoilt = 0;
    for (int64_t i = 0; i < 64; ++i) {
      bool fires = false;
      for (int64_t t = 0; t < 2; ++t) {
        const Expected gate = ExpectedDot(layer.gate, i, x.Seen(dtype, t));
        fires |= gate.value + layer.gate_bias[static_cast<size_t>(i)] > -gate.error - 1e-6;
      }
      if (fires) continue;
      layer.up.SpoilRow(i);
      ++n_spoilt;
    }
    layer.Upload(stream);
    ASSERT_GT(n_spoilt, 5);
    const std::vector<int32_t> all = EveryNeuron(64);
    const auto h = GateUp(stream, layer, Activation::kRelu, GpuSkip::kInactive, all, x, 2);
    ExpectGateUp(layer, Activation::kRelu, all, x, h, 2);
    const auto dense = GateUp(stream, layer, Activation::kRelu, GpuSkip::kNothing, all, x, 2);
    EXPECT_EQ(std::count_if(dense.begin(), dense.end(), [](float v) { return std::isnan(v); }),
              2 * n_spoilt);
  }
}

struct DownResult {
  std::vector<float> y;
  int32_t n_active;
  std::vector<uint32_t> fired;  // counts from kFiredBefore on
};
constexpr uint32_t kFiredBefore = 5;

DownResult Down(Stream& stream, const TestMatrix& down, GpuSkip skip, const std::vector<float>& h,
                int64_t n_tokens) {
  const OnDevice<float> h_device(stream, h);
  const OnDevice<float> y(stream,
                          std::vector<float>(static_cast<size_t>(n_tokens * down.cols()), kNan));
  const OnDevice<int32_t> n_active(stream, std::vector<int32_t>{-1});
  const OnDevice<uint32_t> fired(
      stream, std::vector<uint32_t>(static_cast<size_t>(down.rows()), kFiredBefore));
  const DeviceMemory workspace(GpuFfnDownBytes(down.gpu(), n_tokens), "a test's workspace");
  GpuFfnDown(stream, down.gpu(), skip, h_device.data(), n_tokens, workspace.as<void>(), y.data(),
             n_active.data(), fired.data());
  return {y.Read(), n_active.Read()[0], fired.Read()};
}

// Three in four are 0.
std::vector<float> SparseH(int64_t m, int64_t n_tokens) {
  std::vector<float> h = RandomValues(static_cast<size_t>(m * n_tokens), 8);
  for (size_t i = 0; i < h.size(); ++i) {
    if (i % 4 != 1) h[i] = 0;
  }
  return h;
}

void ExpectDown(const TestMatrix& down, const std::vector<float>& h, const DownResult& result,
                int64_t n_tokens) {
  const auto m = static_cast<size_t>(down.rows());
  // A chain of up to 32 rows, then 8 warps, the chunks of one warp, 8 warps; the product's own.
  const testing::Tolerance tolerance{.fixed = 56, .per_term = 1.0 / 256};
  int32_t n_active = 0;
  std::vector<uint32_t> fired(m, kFiredBefore);
  for (int64_t t = 0; t < n_tokens; ++t) {
    const float* const h_row = h.data() + static_cast<size_t>(t) * m;
    for (size_t i = 0; i < m; ++i) {
      n_active += h_row[i] != 0 ? 1 : 0;
      fired[i] += h_row[i] != 0 ? 1 : 0;
    }
    for (int64_t c = 0; c < down.cols(); ++c) {
      double sum = 0;
      double magnitudes = 0;
      for (size_t i = 0; i < m; ++i) {
        const auto row = static_cast<int64_t>(i);
        const auto col = static_cast<size_t>(c);
        sum += h_row[i] * down.row(row)[col];
        magnitudes += std::fabs(h_row[i]) * down.magnitudes(row)[col];
      }
      ASSERT_NEAR(result.y[static_cast<size_t>(t * down.cols() + c)], sum,
                  testing::AllowedError(tolerance, down.rows(), magnitudes, sum))
          << DTypeName(down.dtype()) << " " << m << " x " << down.cols() << ", column " << c
          << ", token " << t << " of " << n_tokens;
    }
  }
  EXPECT_EQ(result.n_active, n_active);
  EXPECT_EQ(result.fired, fired);
}

TEST_F(GpuFfnTest, DownEqualsTheReferenceWhateverTheShape) {
  for (const DType dtype : KernelTypes()) {
    for (const int64_t cols : MatrixCols(dtype)) {
      for (const int64_t m : {1, 150}) {
        InEveryOrderIf(cols == MatrixCols(dtype)[2], [=] {
          Stream stream;
          TestMatrix down(dtype, m, cols, 9);
          down.Upload(stream);
          const std::vector<float> h = SparseH(m, 1);
          const DownResult dense = Down(stream, down, GpuSkip::kNothing, h, 1);
          ExpectDown(down, h, dense, 1);
          EXPECT_EQ(Down(stream, down, GpuSkip::kInactive, h, 1).y, dense.y);
        });
      }
    }
  }
}

// Enough blocks for chunks of 16 neurons per warp, and several chunks for each warp that adds them.
TEST_F(GpuFfnTest, DownOfManyNeurons) {
  Stream stream;
  TestMatrix down(DType::kF32, 2101, 2050, 16);
  down.Upload(stream);
  const std::vector<float> h = SparseH(2101, 1);
  ExpectDown(down, h, Down(stream, down, GpuSkip::kInactive, h, 1), 1);
}

// A token's y is the same bits alone and beside others.
TEST_F(GpuFfnTest, DownOfSeveralTokens) {
  for (const DType dtype : KernelTypes()) {
    Stream stream;
    const int64_t cols = testing::WholeBlocks(dtype, 96);
    TestMatrix down(dtype, 140, cols, 10);
    down.Upload(stream);
    for (const int64_t n_tokens : {1, 2, 5, 8, 9, 16}) {
      const std::vector<float> h = SparseH(140, n_tokens);
      const DownResult dense = Down(stream, down, GpuSkip::kNothing, h, n_tokens);
      ExpectDown(down, h, dense, n_tokens);
      const DownResult exact = Down(stream, down, GpuSkip::kInactive, h, n_tokens);
      EXPECT_EQ(exact.y, dense.y);
      EXPECT_EQ(exact.n_active, dense.n_active);
      for (int64_t t = 0; t < n_tokens; t += 4) {
        const std::vector<float> h_one(h.begin() + t * 140, h.begin() + (t + 1) * 140);
        const std::vector<float> y_one(exact.y.begin() + t * cols,
                                       exact.y.begin() + (t + 1) * cols);
        EXPECT_EQ(Down(stream, down, GpuSkip::kInactive, h_one, 1).y, y_one) << t;
      }
    }
  }
}

TEST_F(GpuFfnTest, ReadsDownOnlyWhereHIsNotZero) {
  for (const DType dtype : KernelTypes()) {
    if (!HasNan(dtype)) continue;
    Stream stream;
    const int64_t cols = testing::WholeBlocks(dtype, 96);
    TestMatrix down(dtype, 100, cols, 11);
    const std::vector<float> h = SparseH(100, 1);
    for (int64_t i = 0; i < 100; ++i) {
      if (h[static_cast<size_t>(i)] == 0) down.SpoilRow(i);
    }
    down.Upload(stream);
    const DownResult exact = Down(stream, down, GpuSkip::kInactive, h, 1);
    ExpectDown(TestMatrix(dtype, 100, cols, 11), h, exact, 1);
    const DownResult dense = Down(stream, down, GpuSkip::kNothing, h, 1);
    EXPECT_TRUE(std::isnan(dense.y[0]));
  }
}

TEST_F(GpuFfnTest, NoNeuronsGiveZeros) {
  Stream stream;
  const GpuMatrix none = MakeGpuMatrix(nullptr, DType::kQ4_0, 0, 96);
  const OnDevice<float> y(stream, std::vector<float>(2 * 96, kNan));
  const OnDevice<int32_t> n_active(stream, std::vector<int32_t>{-1});
  const DeviceMemory workspace(GpuFfnDownBytes(none, 2), "a test's workspace");
  GpuFfnDown(stream, none, GpuSkip::kInactive, nullptr, 2, workspace.as<void>(), y.data(),
             n_active.data());
  EXPECT_EQ(y.Read(), std::vector<float>(2 * 96, 0.0F));
  EXPECT_EQ(n_active.Read()[0], 0);
}

TEST_F(GpuFfnTest, AnHThatIsNanIsSeen) {
  Stream stream;
  TestMatrix down(DType::kQ8_0, 40, 96, 12);
  down.Upload(stream);
  std::vector<float> h(40, 0.0F);
  h[17] = kNan;
  const DownResult result = Down(stream, down, GpuSkip::kInactive, h, 1);
  EXPECT_EQ(result.n_active, 1);
  for (const float y : result.y) EXPECT_TRUE(std::isnan(y));
}

struct BatchCase {
  bool gated;
  bool biased;
  bool relu_up;
};

TEST_F(GpuFfnTest, ActivatesAndMultipliesBatches) {
  for (const Activation activation : kActivations) {
    for (const auto& [gated, biased, relu_up] :
         {BatchCase{true, true, true}, {true, false, false}, {false, true, false}}) {
      Stream stream;
      std::vector<float> gate = RandomValues(3 * 300, 13);
      for (float& value : gate) value *= 6;  // to where an activation is flat
      const std::vector<float> up = RandomValues(3 * 300, 14);
      const std::vector<float> bias = RandomValues(300, 15), up_bias = RandomValues(300, 16);
      const OnDevice<float> gate_device(stream, gate);
      const OnDevice<float> up_device(stream, up);
      const OnDevice<float> bias_device(stream, bias), up_bias_device(stream, up_bias);
      GpuActivateMultiply(stream,
                          {{activation, 0, relu_up},
                           biased ? bias_device.data() : nullptr,
                           gated ? up_device.data() : nullptr,
                           biased ? up_bias_device.data() : nullptr},
                          3, 300, gate_device.data());
      const std::vector<float> h = gate_device.Read();
      for (size_t i = 0; i < h.size(); ++i) {
        const double x = double{gate[i]} + (biased ? bias[i % 300] : 0.0F);
        double factor = !gated ? 1 : double{up[i]} + (biased ? up_bias[i % 300] : 0.0F);
        if (relu_up) factor = std::max(factor, 0.0);
        const double act = Activated(activation, x);
        const double error =
            ActivationError(activation, x, std::fabs(x) * 0x1p-23) * std::fabs(factor) +
            std::fabs(act * factor) * 0x1p-22;
        ASSERT_NEAR(h[i], act * factor, error) << i;
      }
    }
  }
}

}  // namespace
}  // namespace thermocline
