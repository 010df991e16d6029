// Makes a placement from statistics and budgets.
#pragma once

#include <cstdint>
#include <string>

#include "profiler/activations/activation_counter.h"
#include "profiler/activations/profile_stats.h"
#include "profiler/placement/placement_problem.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/memory_plan.h"
#include "runtime/placement/placement.h"

namespace thermocline {

struct SolvedPlacement {
  Placement placement;
  MemoryPlan
      plan;  // of a run with it, with the context, batch and threads the model was opened with
};

// Statistics of a text in which nothing was active, for trying out budgets before anything is
// profiled. (Which neurons are hot changes how many bytes fit only where layers' neurons differ in
// size, and there by less than a cluster.)
ProfileStats NoActivity(const ModelConfig& config);

// Fills --vram with the clusters most often active on the calibration text per byte, and leaves the
// rest to --ram. Within a layer neurons are ordered by count, then mass, then channel; a packed
// model's order stays as it is. Throws Error when a budget is too small, with what it would take.
// The plan keeps both budgets. REQUIRES: the statistics fit the model.
SolvedPlacement Place(const OpenedModel& model, const ProfileStats& stats, const Budgets& budgets);

// Puts the same share of every layer in VRAM (0 to 1, rounded to clusters), whatever that takes; it
// is for experiments. Throws Error when the rest does not fit ram_bytes.
SolvedPlacement PlaceFraction(const OpenedModel& model, const ProfileStats& stats,
                              double hot_fraction, uint64_t ram_bytes);

}  // namespace thermocline
