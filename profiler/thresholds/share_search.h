// How a share of skipped weights is split: over the matrices of a layer by TEAL's greedy search
// (arXiv:2408.14690, algorithm 1), and over layers by what their outputs suffer.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/core/progress.h"
#include "runtime/engine/engine.h"
#include "runtime/load/model_cuts.h"

namespace thermocline {

inline constexpr double kSearchStep = 0.05;  // of the largest matrix; others by as many weights

// Fills the layers' paths of a method in cuts.mutable_thresholds(). Starting from nothing, again
// and again the matrix skips more that hurts the layer's output least per weight skipped, until the
// layer skips kMaxSparsity. A candidate is tried anew only when it looks best by what was found
// earlier: errors add up nearly, so that what looked worse seldom became better.
// Layers are searched side by side, each by a thread: of a trial little can be shared out. What a
// candidate does not change is not computed again (layer_runner.h).
// ids: tokens of one text, at most a pass. REQUIRES: an engine on the CPU whose executor has one
// stream. Throws Interrupted.
void SearchShares(Engine& engine, std::span<const int32_t> ids, ThresholdMethod method,
                  ModelCuts* cuts, const ProgressFn& progress);

// Returns the layers' shares for every ShareTarget: (kShareTargets, n_layers). The sum of their
// outputs' relative errors is the least there is on the lower convex hulls of their paths.
std::vector<float> SplitOverLayers(const ModelThresholds& thresholds, size_t method,
                                   const ModelConfig& config);

}  // namespace thermocline
