// What statistics say about a model, and about a placement for it: numbers for tables.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "profiler/activations/lru.h"
#include "profiler/activations/profile_stats.h"
#include "runtime/placement/placement.h"

namespace thermocline {

// PowerInfer (arXiv:2312.12456) gives shares for 26 % of the neurons of OPT-30B.
inline constexpr std::array<double, 3> kHottestFractions = {0.10, 0.26, 0.50};

// Coverage is the share of activations (pairs of a token and a neuron active in it) that fall on
// neurons in VRAM. A value is absent where there were no activations.
struct LayerCoverage {
  double calibration_sparsity = 0;  // 1 - mean share of active neurons
  double heldout_sparsity = 0;
  // Share of the held-out activations on the neurons that were hottest in calibration, by fraction
  // of the layer (kHottestFractions).
  std::array<std::optional<double>, kHottestFractions.size()> hottest;
  // What follows is there with a placement only.
  int64_t n_vram = 0;
  std::optional<double> heldin;   // coverage of the calibration text, which the placement knows
  std::optional<double> heldout;  // coverage of the held-out text, which the placement has not seen
  std::optional<double> uniform;  // expected of as many neurons picked at random in each layer
  std::optional<double> lru;      // hits of caches of the same sizes on the held-out text
};

struct CoverageReport {
  std::vector<LayerCoverage> layers;
  // Over all layers: the sparsity of all neurons, and shares of all activations, at the layers' own
  // sizes.
  LayerCoverage total;
};

// placement and lru may be null.
CoverageReport MakeCoverageReport(const ProfileStats& stats, const Placement* placement,
                                  const LruBaseline* lru);

// Coverage by the share of each layer's neurons that is hot, those hottest in calibration first.
struct CoverageCurve {
  std::vector<double> shares;       // (points) from 0 to 1
  std::vector<double> calibration;  // (points) share of that text's activations on hot neurons
  std::vector<double> heldout;
};

// REQUIRES: n_points >= 2.
CoverageCurve MakeCoverageCurve(const ProfileStats& stats, size_t n_points);

// How often neurons fire by their rank: (n_layers, n_bins) mean share of the calibration's tokens
// in which the neurons of a bin are active, hottest bin first. REQUIRES: 1 <= n_bins <= d_ff.
std::vector<std::vector<double>> ActivityByRank(const ProfileStats& stats, size_t n_bins);

}  // namespace thermocline
