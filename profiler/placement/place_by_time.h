// Placements by the time that a token takes, and what other ways to split would take.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "profiler/placement/cost_model.h"
#include "profiler/placement/place.h"
#include "profiler/placement/split_solver.h"

namespace thermocline {

// For which passes and by whose rates.
struct TimeGoal {
  const MachineRates* rates = nullptr;
  SparseMode mode = SparseMode::kDense;
  int64_t rows = 1;
  int64_t context_tokens = 0;   // that a token attends to
  double slow_bytes_per_s = 0;  // PassShape::slow_bytes_per_s
};

// The mode that a run of this model has unless it is told otherwise.
SparseMode UsualMode(const OpenedModel& model);

// One way to split, of those that keep the budgets.
struct RatedSplit {
  std::string strategy;
  bool fits = false;           // else the rest is empty
  std::vector<int64_t> n_hot;  // (n_layers)
  std::vector<uint8_t> away;   // (n_layers) which attend on the slow tier
  PassTime time;
  double ms_per_token = 0;
  double least_ms_per_token = 0;  // proven; of the optimal one
  uint64_t fast_bytes = 0;        // of neurons, and of attention that may lie on either tier
  uint64_t slow_bytes = 0;
};

// The names of the strategies, as they are printed.
inline constexpr const char* kOptimalSplit = "optimal";
inline constexpr const char* kGreedySplit = "coverage-greedy";
inline constexpr const char* kUniformSplit = "uniform";
inline constexpr const char* kLayerSplit = "layer-wise";

// Places the neurons of one model for several budgets.
class TimePlacer {
 public:
  // Everything must outlive it. REQUIRES: the statistics fit the model; rates that have
  // RateTypesOf(model).
  TimePlacer(const OpenedModel& model, const ProfileStats& stats, const TimeGoal& goal);

  // The split that takes the least time, or all neurons on the fast tier where there is room for
  // them. Not fits: the budgets are too small.
  RatedSplit Optimal(const Budgets& budgets) const;
  // That one, then those by activations per byte, the same share of every layer, and whole layers.
  std::vector<RatedSplit> Explain(const Budgets& budgets) const;
  // As a placement. Throws Error when a budget is too small, with what it would take.
  SolvedPlacement Place(const Budgets& budgets) const;
  // What a split that was made in another way is expected to take.
  PlacementPrediction Predict(const Placement& placement) const;

 private:
  SplitProblem MakeSplitProblem(const Budgets& budgets, int fast_threads, bool moves) const;
  RatedSplit Rate(const char* strategy, std::vector<int64_t> n_hot,
                  std::vector<uint8_t> away = {}) const;
  bool Fits(const std::vector<int64_t>& n_hot, const Budgets& budgets,
            const std::vector<uint8_t>& away = {}) const;
  SolverResult WhatWouldFit(const Budgets& budgets) const;
  RatedSplit Greedy(const Budgets& budgets) const;
  RatedSplit Uniform(const Budgets& budgets) const;
  RatedSplit WholeLayers(const Budgets& budgets) const;
  PlacementPrediction PredictionOf(double ms_per_token) const;

  const OpenedModel& model_;
  TimeGoal goal_;
  Placement ordered_;
  SolverProblem problem_;  // bytes of neurons, and what the tiers hold besides
  std::vector<std::vector<int32_t>> orders_;
  std::optional<MovableAttention> attention_;  // none: it stays on the fast tier
  std::optional<CostModel> costs_;
};

}  // namespace thermocline
