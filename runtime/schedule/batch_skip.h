// Up to how many rows a batch skips neurons. A batch can go over a layer neuron by neuron, and
// leave out what none of its rows needs, or run dense, as a product of matrices, of which every
// weight serves all rows. Which takes less time depends on how many neurons fire and on the
// machine.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/engine/engine.h"
#include "runtime/rates/machine_rates.h"

namespace thermocline {

// What a layer's FFN is predicted to take with `rows` rows, in seconds.
struct BatchSeconds {
  double by_neuron = 0;
  double dense = 0;
};

// A layer's neurons on the CPU. One without a gate reads two matrices.
struct BatchLayer {
  RateKey key;  // of its gate's rows
  double neurons = 0;
  bool gated = true;
  double density = 0;  // the share of its neurons that fires for a token
};

// REQUIRES: the rates have the layer's type.
BatchSeconds PredictBatch(const BatchLayer& layer, const MachineRates& rates, int n_threads,
                          int64_t rows);

// For each layer the most rows with which, and with all fewer, skipping is predicted to take less
// time; 0: it does not. Densities are those that were counted. Empty where nothing is skipped
// exactly, nothing was counted yet, or the rates lack the model's types.
std::vector<int64_t> ChooseSkipRows(const Engine& engine, const MachineRates& rates);

}  // namespace thermocline
