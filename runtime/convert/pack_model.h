// Lays a model out for a placement: within each layer neurons hot to cold, and each neuron's up and
// down weights side by side, so that a tier is a run of rows that is used where it lies.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "runtime/convert/model_writer.h"

namespace thermocline {

inline constexpr const char* kPackedPlacementKey = "thermocline.packed.placement_fingerprint";
inline constexpr uint64_t kPackedAlignment =
    64;  // a cache line: rows start on one where their size allows

struct PackOptions {
  std::string placement_path;
  std::optional<TypeRule> rule;  // absent: every tensor keeps its type
  int n_threads = 1;
  ProgressFn progress;
};

struct PackReport {
  std::vector<TensorChange> changes;  // tensors whose weights were rounded or reordered
  // Down projections of a quantised source are rounded once more, because their blocks run along
  // another dimension then.
  bool requantised_down = false;
  double down_relative_rms_error = 0;  // over all layers
  // Up and down of a layer came in two types, or should get two. They are stored in the larger one,
  // or in one larger still where rows of d_model are no whole blocks of it.
  bool widened = false;
};

// Packs a model. `output` appears only when it is complete. It holds the up and down projections of
// one layer in memory.
PackReport PackModel(const std::string& input, const std::string& output,
                     const PackOptions& options);

}  // namespace thermocline
