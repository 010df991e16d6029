// What the ways to place neurons share: the order of each layer's neurons, what they take on each
// tier, and what is said where a budget is too small.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "profiler/activations/profile_stats.h"
#include "profiler/placement/solver.h"
#include "runtime/engine/opened_model.h"
#include "runtime/placement/placement.h"

namespace thermocline {

struct Budgets {
  uint64_t vram_bytes = 0;
  uint64_t ram_bytes = 0;
};

// Writes a budget as one would type it, rounded up, so that what is asked for is enough.
std::string BudgetText(uint64_t n_bytes);

// The orders alone, by count, then mass, then channel; a packed model's stay as they are. Throws
// Error for a model that cannot be placed.
Placement OrderedPlacement(const OpenedModel& model, const ProfileStats& stats);
void SetHot(Placement* placement, const std::vector<int64_t>& n_hot);
// away: (n_layers) which layers attend on the slow tier; empty: none.
void SetAttention(Placement* placement, const std::vector<uint8_t>& away);

// What each layer's attention takes with its keys and values, by tier, and what the tiers hold
// beside that and neurons where some layers attend here and some away.
struct MovableAttention {
  struct Layer {
    uint64_t fast_bytes = 0;
    uint64_t slow_bytes = 0;
  };
  std::vector<Layer> layers;
  std::function<uint64_t(int64_t max_hot)> fast_fixed_bytes;
  std::function<uint64_t(int64_t max_cold)> slow_fixed_bytes;
};
// REQUIRES: layers of the model may attend away; it outlives the result.
MovableAttention MakeMovableAttention(const OpenedModel& model);

// Clusters worth the activations that were counted, of the ordered neurons.
SolverProblem MakeProblem(const OpenedModel& model, const ProfileStats& stats,
                          const Placement& ordered, const Budgets& budgets);

// Throws the Error of budgets that do not do. attention_moves: it was tried on either tier.
// REQUIRES: the result is not kSolved.
[[noreturn]] void FailBudget(const OpenedModel& model, const Budgets& budgets,
                             const SolverResult& result, bool attention_moves = false);

}  // namespace thermocline
