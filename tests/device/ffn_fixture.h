// An FFN slice of random weights, run on the CPU device, and its reference in double arithmetic.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>
#include <vector>

#include "runtime/core/checked_math.h"
#include "runtime/device/cpu/cpu_device.h"
#include "tests/cpu_kernels/kernel_reference.h"

namespace thermocline {

using testing::AllowedError;
using testing::DecodeRow;
using testing::DotTolerance;
using testing::EffectiveActivations;
using testing::FixedPointBound;
using testing::GemmActivations;
using testing::GemmTolerance;
using testing::RandomFloats;

struct FfnCase {
  DType gate;
  DType up;
  DType down;
  int64_t n_neurons;
  int64_t d_model;
  Activation activation = Activation::kRelu;
  bool bias = false;
  bool side_by_side = false;  // a neuron's up and down row next to each other
  bool plain = false;         // without up
  bool up_bias = false;
  float threshold = 0;
  bool relu_up = false;
  bool h_norm = false;
  bool cuts_gates = false;
  float gate_cut = 0;
  bool in_batches = false;  // so many tokens at once that they run as panels
  bool alike = false;       // tokens differ little, and so fire mostly the same neurons
  int activation_bits = 8;
};

inline constexpr float kHiddenNormEps = 0.01F;

// Returns an activation in double, and how steep it is at most within `error` of x.
inline double ActivationOf(const FfnCase& c, double x) {
  switch (c.activation) {
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    case Activation::kGelu:
      return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case Activation::kGeluTanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::kRelu:
      return x < c.threshold ? 0 : std::max(x, 0.0);
    case Activation::kReluSqr:
      return x < 0 ? 0 : x * x;
  }
  return NAN;
}
inline double SlopeOf(const FfnCase& c, double x, double error) {
  return c.activation == Activation::kReluSqr ? 2 * (std::fabs(x) + error) : 1.13;
}

// Makes rows of random weights, `gap_bytes` apart.
inline std::vector<std::byte> RandomRows(DType dtype, int64_t n, int64_t cols, int64_t gap_bytes,
                                         std::mt19937* rng) {
  const int64_t stride = RowBytes(dtype, cols) + gap_bytes;
  std::vector<std::byte> rows(static_cast<size_t>(n * stride));
  for (int64_t r = 0; r < n; ++r) {
    QuantizeRow(dtype, RandomFloats(rng, cols, 0.1F).data(), cols, rows.data() + r * stride);
  }
  return rows;
}

struct FfnResult {
  std::vector<float> y;  // (n, d_model)
  FfnCount count;
  int64_t n_active = 0;
};

// How the FFN is run: the tokens [first, first + n) of those made.
struct FfnRun {
  int64_t n = 1;
  int n_lanes = 2;
  bool exact = false;
  int64_t first = 0;
  const SlicePredictor* predictor = nullptr;
  bool audit = false;
};

class Ffn {
 public:
  explicit Ffn(const FfnCase& c) : case_(c), rng_(9) {
    const int64_t up_bytes = RowBytes(c.up, c.d_model);
    const int64_t down_bytes = RowBytes(c.down, c.d_model);
    gate_ = RandomRows(c.gate, c.n_neurons, c.d_model, 0, &rng_);
    up_ = RandomRows(c.up, c.n_neurons, c.d_model, c.side_by_side ? down_bytes : 0, &rng_);
    down_ = RandomRows(c.down, c.n_neurons, c.d_model, 0, &rng_);
    slice_.n_neurons = c.n_neurons;
    slice_.gate = DenseView(gate_.data(), c.gate, c.n_neurons, c.d_model);
    slice_.up = DenseView(up_.data(), c.up, c.n_neurons, c.d_model);
    slice_.down = DenseView(down_.data(), c.down, c.n_neurons, c.d_model);
    if (c.side_by_side) {
      const int64_t stride = up_bytes + down_bytes;
      for (int64_t i = 0; i < c.n_neurons; ++i) {
        std::copy_n(slice_.down.row(i), down_bytes, up_.data() + i * stride + up_bytes);
      }
      slice_.up.row_stride_bytes = stride;
      slice_.down = {up_.data() + up_bytes, c.down, c.n_neurons, c.d_model, stride};
    }
    bias_ = RandomFloats(&rng_, c.n_neurons, 0.5F);
    if (c.bias) slice_.gate_bias = bias_.data();
    up_bias_ = RandomFloats(&rng_, c.n_neurons, 0.5F);
    if (c.up_bias) slice_.up_bias = up_bias_.data();
    h_norm_ = RandomFloats(&rng_, c.n_neurons, 1.5F);
    if (c.h_norm) slice_.h_norm = h_norm_.data();
    if (c.plain) slice_.up = {};
    x_ = RandomFloats(&rng_, kListMaxTokens * c.d_model);
    predictor_x_ = RandomFloats(&rng_, kListMaxTokens * c.d_model);
    if (!c.alike) return;
    for (std::vector<float>* x : {&x_, &predictor_x_}) {
      for (size_t i = static_cast<size_t>(c.d_model); i < x->size(); ++i) {
        (*x)[i] = 0.05F * (*x)[i] + (*x)[i % static_cast<size_t>(c.d_model)];
      }
    }
  }

  FfnResult Run(const FfnRun& run) const {
    CpuDeviceLimits limits{.n_lanes = run.n_lanes,
                           .max_tokens = run.n,
                           .d_model = case_.d_model,
                           .max_d_in = std::max(case_.d_model, case_.n_neurons),
                           .max_neurons = case_.n_neurons,
                           .max_seq_len = 1,
                           .n_heads = 1,
                           .head_dim = 32,
                           .activation_bits = case_.activation_bits};
    if (run.predictor != nullptr) {
      limits.predicts = true;
      limits.max_rank = run.predictor->layer.in_proj.rows;
    }
    CpuDevice device("tested", limits);
    ThreadTeam team(run.n_lanes);
    LaneGroup* group = team.MakeGroup(run.n_lanes);
    const auto inner = static_cast<size_t>(run.n * case_.n_neurons);
    std::vector<float> gate(inner, NAN);
    std::vector<float> up(inner, NAN);
    FfnResult result;
    result.y.assign(static_cast<size_t>(run.n * case_.d_model), NAN);
    const FfnState state{gate.data(), up.data(), result.y.data()};
    const FfnOp op{.slice = &slice_,
                   .activation = case_.activation,
                   .activation_threshold = case_.threshold,
                   .relu_up = case_.relu_up,
                   .cuts_gates = case_.cuts_gates,
                   .gate_cut = case_.gate_cut,
                   .skip_inactive = run.exact,
                   .predictor = run.predictor,
                   .predictor_x = predictor_x(run.first),
                   .audit = run.audit,
                   .h_norm_eps = kHiddenNormEps};
    std::vector<FfnCount> counts(static_cast<size_t>(run.n_lanes));
    team.Run([&](int thread) {
      counts[static_cast<size_t>(thread)] =
          device.Ffn(Lane{thread, run.n_lanes, group}, op, x(run.first), run.n, state);
    });
    for (const FfnCount& count : counts) EXPECT_EQ(count.active, counts.front().active);
    result.count = counts.front();
    result.n_active = result.count.active;
    return result;
  }

  const float* x(int64_t token) const { return x_.data() + token * case_.d_model; }
  const float* predictor_x(int64_t token) const {
    return predictor_x_.data() + token * case_.d_model;
  }
  const FfnSlice& slice() const { return slice_; }
  const KernelTable& kernels() const { return KernelsOf(CpuKernels(), case_.activation_bits); }

  // Checks n tokens from the first. Neurons that `computed` leaves out count as 0. Returns how many
  // of the computed neurons are active.
  int64_t ExpectMatchesDouble(
      const FfnResult& result, int64_t n,
      const std::function<bool(int64_t token, int64_t neuron)>& computed = {}) const {
    int64_t n_active = 0;
    for (int64_t t = 0; t < n; ++t) n_active += ExpectToken(result, t, computed);
    return n_active;
  }

 private:
  struct Dot {
    double value;
    double error;
  };
  Dot DotOf(const TensorView& w, int64_t row, const std::vector<float>& x) const {
    const std::vector<double> weights = DecodeRow(w.dtype, w.row(row), w.cols);
    // Without panels of an instruction set's own a batch multiplies decoded weights.
    const bool panels = case_.in_batches && kernels().gemm != nullptr;
    const GemmForm gemm = panels ? kernels().gemm->rows_form(w.dtype) : GemmForm::kF32;
    const VectorForm form = case_.in_batches ? VectorForm::kF32 : kernels().vector_form(w.dtype);
    const std::vector<double> effective =
        panels ? GemmActivations(gemm, x, case_.activation_bits)
               : EffectiveActivations(form, x, case_.activation_bits);
    double value = 0;
    double magnitudes = 0;
    for (size_t i = 0; i < weights.size(); ++i) {
      value += weights[i] * effective[i];
      magnitudes += std::fabs(weights[i] * effective[i]);
    }
    const auto tolerance = panels ? GemmTolerance(gemm) : DotTolerance(w.dtype, form);
    const double fixed_point = gemm == GemmForm::kI16 ? FixedPointBound(weights, effective) : 0;
    return {value, AllowedError(tolerance, w.cols, magnitudes, value) + fixed_point};
  }

  // Returns all gates of a token, before the activation.
  std::vector<Dot> GatesOf(const std::vector<float>& x) const {
    std::vector<Dot> gates;
    double sum = 0;
    for (int64_t i = 0; i < case_.n_neurons; ++i) {
      Dot gate = DotOf(slice_.gate, i, x);
      if (case_.bias) gate.value += bias_[static_cast<size_t>(i)];
      sum += gate.value;
      gates.push_back(gate);
    }
    if (!case_.cuts_gates) return gates;
    const double mean = sum / static_cast<double>(case_.n_neurons);
    double squares = 0;
    double error = 0;
    for (const Dot& gate : gates) {
      squares += (gate.value - mean) * (gate.value - mean);
      error = std::max(error, gate.error);
    }
    const double deviation = std::sqrt(squares / static_cast<double>(case_.n_neurons));
    const double cut = mean + case_.gate_cut * deviation;
    // Mean and deviation are off by no more than the gates are.
    for (Dot& gate : gates) {
      gate = {std::max(0.0, gate.value - cut),
              gate.error + (1 + std::fabs(case_.gate_cut)) * error + 1e-6 * std::fabs(cut)};
    }
    return gates;
  }

  // Returns h of a neuron, before its norm.
  Dot HiddenOf(const Dot& gate, int64_t neuron, const std::vector<float>& x) const {
    const double act = ActivationOf(case_, gate.value);
    // e^x, erf, tanh, the bias and the product round as well.
    const double act_error =
        SlopeOf(case_, gate.value, gate.error) * gate.error + 2e-6 * std::fabs(gate.value);
    if (case_.plain) return {act, act_error};
    Dot up = DotOf(slice_.up, neuron, x);
    if (case_.up_bias) up.value += up_bias_[static_cast<size_t>(neuron)];
    if (case_.relu_up) up.value = std::max(up.value, 0.0);
    return {act * up.value, std::fabs(up.value) * act_error + std::fabs(act) * up.error +
                                1e-6 * std::fabs(act * up.value)};
  }

  // Returns how many neurons are active in double arithmetic.
  int64_t ExpectToken(const FfnResult& result, int64_t token,
                      const std::function<bool(int64_t, int64_t)>& computed) const {
    const auto at = x_.begin() + token * case_.d_model;
    const std::vector<float> x(at, at + case_.d_model);
    std::vector<double> reference(static_cast<size_t>(case_.d_model), 0.0);
    std::vector<double> allowed(reference.size(), 0.0);
    double squares = 0;
    double square_error = 0;
    int64_t n_active = 0;
    const std::vector<Dot> gates = GatesOf(x);
    const bool panels = case_.in_batches && kernels().gemm != nullptr;
    const GemmForm down_form =
        panels ? kernels().gemm->columns_form(slice_.down.dtype) : GemmForm::kF32;
    // Half a step of bf16 in either factor of a product.
    const double rounding = down_form == GemmForm::kBF16 ? 0x1.02p-8 : 0;
    std::vector<double> hidden;                // by neuron, with its norm
    std::vector<std::vector<double>> columns;  // of down: by column, then neuron
    for (int64_t i = 0; i < case_.n_neurons; ++i) {
      if (computed && !computed(token, i)) continue;
      const Dot gate = gates[static_cast<size_t>(i)];
      const Dot h = HiddenOf(gate, i, x);
      const double weight = case_.h_norm ? h_norm_[static_cast<size_t>(i)] : 1;
      n_active += ActivationOf(case_, gate.value) != 0;
      squares += h.value * h.value;
      square_error += 2 * std::fabs(h.value) * h.error + h.error * h.error;
      const std::vector<double> down =
          DecodeRow(slice_.down.dtype, slice_.down.row(i), case_.d_model);
      hidden.push_back(h.value * weight);
      columns.resize(down.size());
      for (size_t c = 0; c < down.size(); ++c) {
        columns[c].push_back(down[c]);
        reference[c] += h.value * weight * down[c];
        // There is one rounding per neuron of a part and one per part.
        const double additions = 0x1p-24 * static_cast<double>(case_.n_neurons + kFfnParts);
        allowed[c] += std::fabs(weight * down[c]) *
                      (h.error + (additions + 1e-7 + rounding) * std::fabs(h.value));
      }
    }
    for (size_t c = 0; down_form == GemmForm::kI16 && c < columns.size(); ++c) {
      allowed[c] += FixedPointBound(columns[c], hidden);
    }
    if (case_.h_norm) {
      const auto n = static_cast<double>(case_.n_neurons);
      const double mean = squares / n + kHiddenNormEps;
      for (size_t c = 0; c < reference.size(); ++c) {
        reference[c] /= std::sqrt(mean);
        const double relative = square_error / n / mean + 1e-6;
        allowed[c] = allowed[c] / std::sqrt(mean) + relative * std::fabs(reference[c]);
      }
    }
    for (size_t c = 0; c < reference.size(); ++c) {
      const float found = result.y[static_cast<size_t>(token * case_.d_model) + c];
      EXPECT_NEAR(found, reference[c], allowed[c] + 1e-30) << "token " << token << ", column " << c;
    }
    return n_active;
  }

  FfnCase case_;
  std::mt19937 rng_;
  FfnSlice slice_;
  std::vector<std::byte> gate_;
  std::vector<std::byte> up_;
  std::vector<std::byte> down_;
  std::vector<float> bias_;
  std::vector<float> up_bias_;
  std::vector<float> h_norm_;
  std::vector<float> x_;            // (kListMaxTokens, d_model)
  std::vector<float> predictor_x_;  // (kListMaxTokens, d_model)
};

}  // namespace thermocline
