#include "profiler/placement/place.h"

#include <fmt/format.h>

#include <algorithm>

#include "profiler/placement/solver.h"
#include "runtime/core/error.h"
#include "runtime/core/size_text.h"

namespace thermocline {
namespace {

// The last cluster of a layer may be shorter.
int64_t NearestClusterEnd(double fraction, int64_t d_ff) {
  const double wanted = fraction * static_cast<double>(d_ff);
  const int64_t below = static_cast<int64_t>(wanted) / kClusterNeurons * kClusterNeurons;
  const int64_t above = std::min(below + kClusterNeurons, d_ff);
  return wanted - static_cast<double>(below) < static_cast<double>(above) - wanted ? below : above;
}

// Layers that make something of all their neurons lie on one tier whole.
std::vector<int64_t> HotOfFraction(const ModelConfig& config, double fraction) {
  std::vector<int64_t> n_hot;
  for (const LayerConfig& layer : config.layers) {
    const int64_t nearest = fraction < 0.5 ? 0 : config.d_ff;
    n_hot.push_back(layer.ffn.keeps_together() ? nearest
                                               : NearestClusterEnd(fraction, config.d_ff));
  }
  return n_hot;
}

}  // namespace

ProfileStats NoActivity(const ModelConfig& config) {
  const auto d_ff = static_cast<size_t>(config.d_ff);
  ProfileStats stats;
  stats.calibration.layers.assign(static_cast<size_t>(config.n_layers),
                                  {std::vector<int64_t>(d_ff, 0), std::vector<double>(d_ff, 0.0)});
  return stats;
}

SolvedPlacement Place(const OpenedModel& model, const ProfileStats& stats, const Budgets& budgets) {
  SolvedPlacement solved;
  solved.placement = OrderedPlacement(model, stats);
  solved.placement.vram_budget_bytes = budgets.vram_bytes;
  solved.placement.ram_budget_bytes = budgets.ram_bytes;
  const SolverProblem problem = MakeProblem(model, stats, solved.placement, budgets);
  const SolverResult result = SolvePlacementSizes(problem);
  if (result.outcome != SolverOutcome::kSolved) FailBudget(model, budgets, result);
  SetHot(&solved.placement, result.n_hot);
  solved.plan = model.PlanOf(&solved.placement);
  CHECK(solved.plan.total_bytes(0) <= budgets.vram_bytes);
  CHECK(solved.plan.total_bytes(1) <= budgets.ram_bytes);
  return solved;
}

SolvedPlacement PlaceFraction(const OpenedModel& model, const ProfileStats& stats,
                              double hot_fraction, uint64_t ram_bytes) {
  SolvedPlacement solved;
  solved.placement = OrderedPlacement(model, stats);
  SetHot(&solved.placement, HotOfFraction(model.config(), hot_fraction));
  solved.plan = model.PlanOf(&solved.placement);
  solved.placement.vram_budget_bytes = solved.plan.total_bytes(0);
  solved.placement.ram_budget_bytes = ram_bytes;
  const uint64_t slow_bytes = solved.plan.total_bytes(1);
  if (slow_bytes > ram_bytes) {
    throw Error({.path = model.gguf().path(),
                 .what = fmt::format("with {:.0f} % of the neurons in vram the rest does not fit",
                                     100 * hot_fraction),
                 .expected = fmt::format("a RAM budget of {} or more ({})", BudgetText(slow_bytes),
                                         FormatBytes(slow_bytes)),
                 .found = FormatBytes(ram_bytes),
                 .hint = "raise the RAM budget or the share of hot neurons",
                 .settings = {{Setting::kRamBudget}, {Setting::kHotShare}}});
  }
  return solved;
}

}  // namespace thermocline
