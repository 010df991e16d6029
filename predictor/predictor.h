// What guesses which neurons of a layer will fire, before their gates are computed.
//
// Every kind that is stored has one shape: score = out_proj f(in_proj x) + bias, and a neuron is
// predicted where its score is above 0. f is the identity (svd: two factors of W_gate; bias moves
// each neuron's threshold) or ReLU (mlp; PowerInfer's files). `sign` needs no stored matrices: see
// sign_predictor.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/core/tensor_view.h"

namespace thermocline {

enum class PredictorKind : uint8_t { kSvd, kMlp, kSign };
enum class PredictorInput : uint8_t {
  kNormed,          // x is the FFN's normalised input
  kResidual,        // x is the residual stream before the FFN's norm (PowerInfer's files); in a
                    // layer that runs attention and FFN side by side, the layer's input
  kPreviousNormed,  // x is the normalised input of the layer before: known while attention runs
};

// One way to set a layer's thresholds, with what it does on held-out text.
struct OperatingPoint {
  float recall = 0;               // |predicted and active| / |active|
  float density = 0;              // |predicted| / d_ff
  const float* bias = nullptr;    // (d_ff); null: all 0
  float predictor_threshold = 0;  // taken from every score, beside the bias
};

struct LayerPredictor {
  TensorView in_proj;   // (rank, d_model)
  TensorView out_proj;  // (d_ff, rank), in the file's neuron order
  bool relu = false;    // between the two
  PredictorInput input = PredictorInput::kNormed;
  std::vector<OperatingPoint> points;  // ascending recall (and density)
};

class SignRows;

// Packed sign bits in a queued device's own memory and form.
struct DeviceSigns {
  const uint32_t* words = nullptr;
  const float* scaled_bias = nullptr;  // (n_neurons) or null
};

// Rows that a list names are read at about this share of the speed of neighbouring ones
// (kernel_bench, cases rows/...), so above this density every gate is as cheap as the named ones.
inline constexpr double kListEfficiency = 0.65;

// A layer's predictor for some of its neurons, as a device runs it.
struct SlicePredictor {
  // Rows of out_proj, and biases, are in the order of the slice's neurons. There is one point, and
  // its threshold is part of the biases.
  LayerPredictor layer;
  const SignRows* signs = nullptr;  // in place of the matrices; then the point's threshold counts
  DeviceSigns device_signs;         // the sign bits where the slice lies on a queued device
  bool runs = false;           // false: the layer's gates are cheaper to compute than to predict
  uint64_t touched_bytes = 0;  // bytes that a token reads
};

// Of a layer's slices, by tier. A tier whose neurons are not asked about has none that runs.
using LayerPredictors = std::vector<SlicePredictor>;

}  // namespace thermocline
