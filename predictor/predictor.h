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
  kResidual,        // x is the residual stream before the FFN's norm (PowerInfer's files)
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

}  // namespace thermocline
