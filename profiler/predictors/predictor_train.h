// Trains one layer's mlp predictor on what the layer did with the calibration tokens.
#pragma once

#include <functional>
#include <string>

#include "predictor/mlp_trainer.h"
#include "runtime/core/progress.h"

namespace thermocline {

struct MlpTraining {
  int64_t d_model = 0;
  int64_t d_ff = 0;
  int max_epochs = 16;
  int patience = 2;  // epochs without a lower cost after which training stops
  MlpOptions options = {};
  std::string label = {};  // shown with the progress
  ProgressFn progress = {};
};

// Trains the predictor. `cost` judges weights on held-out tokens, the lower the better. Returns the
// best weights seen, those at the start included. Throws Interrupted between batches. The sums of
// gradients, and so the last bits of the weights, depend on n_threads.
LowRank TrainMlp(int n_threads, const MlpSamples& samples, const LowRank& half,
                 const MlpTraining& training, const std::function<double(const LowRank&)>& cost);

}  // namespace thermocline
