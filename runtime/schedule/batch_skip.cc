#include "runtime/schedule/batch_skip.h"

#include <algorithm>
#include <cmath>

#include "runtime/device/ops.h"

namespace thermocline {
namespace {

// What must be won before the other way is taken: a prediction is no measurement.
constexpr double kLeastGain = 0.95;

double RowBytesOf(const RateKey& key) { return static_cast<double>(RowBytes(key.dtype, key.cols)); }

}  // namespace

// By neuron, the first row of a batch reads the gates from memory, and the others find them in a
// core's cache. Of up and down the rows that any of them needs come from memory. Rows fire
// independently here; as far as they fire alike, less is read.
BatchSeconds PredictBatch(const BatchLayer& layer, const MachineRates& rates, int n_threads,
                          int64_t rows) {
  const RateKey& key = layer.key;
  const auto n = static_cast<double>(rows);
  const double matrix = layer.neurons * static_cast<double>(key.cols);
  const double any = 1 - std::pow(1 - layer.density, n);
  const double again = std::max(0.0, n * layer.density - any) * matrix;
  const double row_bytes = RowBytesOf(key);
  double seconds = rates.LinearSeconds(key, n_threads, 1, matrix) +
                   (n - 1) * rates.CachedSeconds(key, n_threads, matrix);
  if (layer.gated) {
    seconds +=
        rates.LinearSeconds(key, n_threads, 1, any * matrix) / rates.LinearGather(row_bytes, any) +
        rates.CachedSeconds(key, n_threads, again);
  }
  seconds += rates.SumSeconds(key, n_threads, any * matrix) / rates.SumGather(row_bytes, any) +
             rates.CachedSeconds(key, n_threads, again);
  const double all = (layer.gated ? 3 : 2) * matrix;
  return {.by_neuron = seconds, .dense = rates.FfnSeconds(key, n_threads, rows, all)};
}

std::vector<int64_t> ChooseSkipRows(const Engine& engine, const MachineRates& rates) {
  const FfnCounts& counts = engine.executor().counts();
  const bool exact = engine.model().mode() == SparseMode::kExact;
  // Neurons on a GPU are not computed by the CPU's rates.
  const size_t first_cpu_tier = engine.model().gpu().empty() ? 0 : 1;
  if (!exact || counts.tokens == 0) return {};
  std::vector<int64_t> chosen;
  for (size_t l = 0; l < engine.weights().layers.size(); ++l) {
    BatchLayer layer;
    const auto& slices = engine.weights().layers[l].slices;
    double n_active = 0;
    int64_t fewest = 0;  // fewer rows go neuron by neuron in any case
    for (size_t tier = first_cpu_tier; tier < slices.size(); ++tier) {
      if (slices[tier].n_neurons == 0) continue;
      layer.key = {slices[tier].gate.dtype, slices[tier].gate.cols};
      fewest = slices[tier].by_column ? kGemmMinTokens : kFewTokens + 1;
      layer.gated = slices[tier].is_gated();
      layer.neurons += static_cast<double>(slices[tier].n_neurons);
      n_active += static_cast<double>(counts.tiers[tier][l].active);
    }
    int64_t rows = 0;
    if (layer.neurons > 0) {
      if (!rates.HasType(layer.key.dtype)) return {};
      layer.density = n_active / (layer.neurons * static_cast<double>(counts.tokens));
      for (int64_t n = fewest; n <= kMostSkipRows; ++n) {
        const BatchSeconds s = PredictBatch(layer, rates, engine.model().n_threads(), n);
        if (s.by_neuron > kLeastGain * s.dense) break;
        rows = n;
      }
    }
    chosen.push_back(rows);
  }
  return chosen;
}

}  // namespace thermocline
