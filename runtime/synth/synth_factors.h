// Makes the gate matrix of a synthetic layer as a product of two known factors. A low-rank
// predictor can predict such a matrix, as it nearly can those of trained models and cannot random
// ones.
//
// The factors are small integers, so every sum of their products is exact in f32, whatever the
// order, and the model is the same on every machine.
#pragma once

#include <cstdint>
#include <vector>

#include "predictor/low_rank.h"
#include "runtime/synth/synth.h"

namespace thermocline {

// REQUIRES: options.gate_rank > 0.
class GateFactors {
 public:
  GateFactors(const SynthOptions& options, int64_t layer);

  // Makes rows: (end - begin, d_model), rows [begin, end) of the gate before they are stored.
  // Weights have a variance of about 1 / d_model. Threads may make different rows at once.
  void MakeRows(int64_t begin, int64_t end, float* rows) const;

  // Returns the factors as a predictor's: out_proj in_proj is the gate.
  LowRank Scaled() const;

 private:
  int64_t rank_;
  int64_t d_model_;
  float in_scale_;
  float out_scale_;
  std::vector<float> in_;   // (rank, d_model) integers up to 127
  std::vector<float> out_;  // (d_ff, rank) integers up to 15
};

}  // namespace thermocline
