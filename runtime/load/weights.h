// From a GGUF file to weights on devices. What can be used where it lies in the mapping is; what
// must be reordered (a placement), transposed (down of a stock file, for skipping) or widened
// (norms) is copied.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/core/progress.h"
#include "runtime/device/device.h"
#include "runtime/gguf/gguf_reader.h"
#include "runtime/load/down_type.h"
#include "runtime/model/families.h"
#include "runtime/model/model.h"
#include "runtime/placement/placement.h"

namespace thermocline {

// What storing a stock file's down projection per neuron cost, and others by column: quantised
// blocks run the other way, so the weights are rounded once more.
struct RequantReport {
  bool requantised = false;
  double relative_rms_error = 0;  // over all layers: sqrt(sum (new - old)^2 / sum old^2)
  double max_abs_error = 0;
};

struct LoadOptions {
  DownStorage down;
  ColumnStorage columns;
  const Placement* placement = nullptr;  // null: every neuron on the fast device, in file order
  int n_threads = 1;                     // for transposing
  // Copy matrices into the device's own memory (huge pages) instead of reading them from the
  // mapping.
  bool copy_weights = false;
  // Neurons will move between tiers (runtime/moves): none is read where the file has it.
  bool movable_neurons = false;
  ProgressFn progress;
};

struct LoadedWeights {
  ModelWeights weights;
  RequantReport requant;
  std::vector<std::vector<int32_t>> neuron_orders;  // what FfnSlice::neuron_ids point into
  std::vector<uint64_t> mapped_bytes;  // by tier: of weights that are read where the file has them
};

// Every tensor's presence, shape and type is checked before anything is copied. `gguf` and the
// tiers must outlive the weights. tiers: from the fastest on; without a placement the first holds
// all. REQUIRES: the placement puts no neuron on a tier that is not there.
std::unique_ptr<LoadedWeights> LoadWeights(const GgufReader& gguf, const Family& family,
                                           const ModelConfig& config, const LoadOptions& options,
                                           std::span<Device* const> tiers);

// Checks the presence, shape and type of every tensor the model needs, without reading weights; and
// that a packed model's order of neurons is one.
void CheckTensors(const GgufReader& gguf, const Family& family, const ModelConfig& config);

// The down projection of a stock file as rows per neuron, stored as `stored`; or another matrix
// (d_out, d_in) as rows per channel of its input.
// down: (d_model, d_ff). Row of neuron order[i] goes to out + i * out_stride_bytes.
RequantReport TransposeDown(const TensorView& down, const std::vector<int32_t>& order, DType stored,
                            std::byte* out, int64_t out_stride_bytes, int n_threads);

}  // namespace thermocline
