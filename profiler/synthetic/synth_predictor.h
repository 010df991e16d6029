// The predictor of a synthetic model whose gates have known factors: what a predictor of that rank
// can do at best. Nothing is fitted but one margin per operating point and layer.
#pragma once

#include <string>

#include "runtime/placement/predictor_file.h"
#include "runtime/synth/synth.h"

namespace thermocline {

struct SynthPredictorOptions {
  DType dtype = DType::kQ8_0;  // type of the factors; or kF16
  // Tokens to choose margins with, and as many again to measure. 0: as many as the model's size
  // allows in about a minute.
  int64_t n_tokens = 0;
  int n_threads = 0;
  ProgressFn progress = {};
};

// Builds a predictor of kind svd, with recall and density measured on random tokens. `model_path`:
// written with these options. REQUIRES: a gate_rank. Throws Error for an activation without true
// zeros, Interrupted.
PredictorFile BuildSynthPredictor(const std::string& model_path, const SynthOptions& options,
                                  const SynthPredictorOptions& predictor);

}  // namespace thermocline
