// The byte count behind every claim about decoding: what one token reads.
#pragma once

#include <array>
#include <vector>

#include "predictor/sparse_mode.h"
#include "runtime/engine/engine.h"

namespace thermocline {

// Bytes of weights that decode reads per token, on average over the counted passes: attention,
// norms and output head whole, and of the FFN what the mode computed. `dense_bytes` is the same
// with nothing skipped.
struct TouchedBytes {
  double bytes = 0;
  double dense_bytes = 0;
  double mean_density = 0;       // neurons whose up and down were read / neurons, mean over layers
  double mean_gate_density = 0;  // the same of gates
  // Of kThreshold: which share was skipped of the weights of the matrices that thresholds are for.
  double sparsity = 0;
  ModelCuts::PartShares skipped;           // and of the parts of a layer
  std::array<double, kPassParts> parts{};  // `bytes` by the part of the pass that reads them
  std::vector<double> tiers;               // `bytes` by the tier that they lie in

  double of(PassPart part) const { return parts[static_cast<size_t>(part)]; }
};
TouchedBytes TouchedPerToken(const Engine& engine, const FfnCounts& counts, SparseMode mode);

}  // namespace thermocline
