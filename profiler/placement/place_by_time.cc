#include "profiler/placement/place_by_time.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr double kPicosecondsPerMs = 1e9;
// A split this share of the best time behind it is as good: rates are not known as well.
constexpr double kTolerance = 1e-5;

}  // namespace

SparseMode UsualMode(const OpenedModel& model) {
  if (model.predictor() != nullptr) return SparseMode::kPredicted;
  return model.config().has_true_zeros() ? SparseMode::kExact : SparseMode::kDense;
}

TimePlacer::TimePlacer(const OpenedModel& model, const ProfileStats& stats, const TimeGoal& goal)
    : model_(model),
      goal_(goal),
      ordered_(OrderedPlacement(model, stats)),
      problem_(MakeProblem(model, stats, ordered_, {})) {
  for (const LayerPlacement& layer : ordered_.layers) orders_.push_back(layer.neuron_order);
  const PassShape shape{.rows = goal.rows,
                        .context_tokens = goal.context_tokens,
                        .mode = goal.mode,
                        .n_threads = model.n_threads(),
                        .slow_bytes_per_s = goal.slow_bytes_per_s};
  costs_.emplace(model, stats, orders_, *goal.rates, shape);
  if (model.config().attention_may_move()) attention_ = MakeMovableAttention(model);
}

// Where attention moves every layer has its choices twice: with it here and away.
SplitProblem TimePlacer::MakeSplitProblem(const Budgets& budgets, int fast_threads,
                                          bool moves) const {
  SplitProblem split;
  const int64_t d_ff = problem_.d_ff;
  for (size_t l = 0; l < problem_.layers.size(); ++l) {
    const SolverLayer& layer = problem_.layers[l];
    std::vector<SplitChoice>& choices = split.layers.emplace_back();
    for (int64_t k = 0; k <= CeilDiv(d_ff, kClusterNeurons); ++k) {
      const int64_t n_hot = std::min(k * kClusterNeurons, d_ff);
      if (layer.whole && n_hot != 0 && n_hot != d_ff) continue;
      const auto time = [&](bool away) {
        const LayerTime of_layer =
            costs_->Layer(static_cast<int64_t>(l), n_hot, fast_threads, away);
        return std::llround((of_layer.attention_ms + of_layer.ffn_ms) * kPicosecondsPerMs);
      };
      SplitChoice choice = {n_hot, d_ff - n_hot, time(false),
                            static_cast<uint64_t>(n_hot) * layer.fast_neuron_bytes,
                            static_cast<uint64_t>(d_ff - n_hot) * layer.slow_neuron_bytes};
      SplitChoice away = choice;
      if (moves) choice.fast_bytes += attention_->layers[l].fast_bytes;
      choices.push_back(choice);
      if (!moves) continue;
      away.attends_away = true;
      away.picoseconds = time(true);
      away.slow_bytes += attention_->layers[l].slow_bytes;
      choices.push_back(away);
    }
  }
  split.fast_fixed_bytes = moves ? attention_->fast_fixed_bytes : problem_.fast_fixed_bytes;
  split.slow_fixed_bytes = moves ? attention_->slow_fixed_bytes : problem_.slow_fixed_bytes;
  split.vram_bytes = budgets.vram_bytes;
  split.ram_bytes = budgets.ram_bytes;
  const std::vector<int64_t> none(problem_.layers.size(), 0);
  split.tolerance_picoseconds =
      std::llround(kTolerance * kPicosecondsPerMs * costs_->Pass(none).total_ms());
  return split;
}

RatedSplit TimePlacer::Rate(const char* strategy, std::vector<int64_t> n_hot,
                            std::vector<uint8_t> away) const {
  if (away.empty()) away.assign(n_hot.size(), 0);
  RatedSplit split{.strategy = strategy,
                   .fits = true,
                   .n_hot = std::move(n_hot),
                   .away = std::move(away),
                   .time = {}};
  split.time = costs_->Pass(split.n_hot, split.away);
  split.ms_per_token = split.time.total_ms() / static_cast<double>(goal_.rows);
  split.least_ms_per_token = split.ms_per_token;
  for (size_t l = 0; l < split.n_hot.size(); ++l) {
    const auto hot = static_cast<uint64_t>(split.n_hot[l]);
    split.fast_bytes += hot * problem_.layers[l].fast_neuron_bytes;
    split.slow_bytes +=
        (static_cast<uint64_t>(problem_.d_ff) - hot) * problem_.layers[l].slow_neuron_bytes;
    if (!attention_) continue;
    const bool away_here = split.away[l] != 0;
    (away_here ? split.slow_bytes : split.fast_bytes) +=
        away_here ? attention_->layers[l].slow_bytes : attention_->layers[l].fast_bytes;
  }
  return split;
}

bool TimePlacer::Fits(const std::vector<int64_t>& n_hot, const Budgets& budgets,
                      const std::vector<uint8_t>& away) const {
  Placement placement;
  placement.layers.resize(n_hot.size());
  for (size_t l = 0; l < n_hot.size(); ++l) {
    placement.layers[l].n_on[kVram] = n_hot[l];
    placement.layers[l].n_on[kDram] = problem_.d_ff - n_hot[l];
  }
  SetAttention(&placement, away);
  const MemoryPlan plan = model_.PlanOf(&placement);
  return plan.total_bytes(0) <= budgets.vram_bytes && plan.total_bytes(1) <= budgets.ram_bytes;
}

// Where both tiers are the host's, times depend on how its threads are shared out, and that on the
// split: every way to share them is tried, and each split rated by the way it leads to. What the
// tiers hold besides depends on whether any layer attends away: both are solved.
RatedSplit TimePlacer::Optimal(const Budgets& budgets) const {
  const std::vector<int64_t> all(problem_.layers.size(), problem_.d_ff);
  if (Fits(all, budgets)) return Rate(kOptimalSplit, all);
  const int n_threads = costs_->shape().n_threads;
  const int most = costs_->fast_is_host() ? std::max(1, n_threads - 1) : 1;
  RatedSplit best{.strategy = kOptimalSplit, .n_hot = {}, .away = {}, .time = {}};
  double least = std::numeric_limits<double>::infinity();
  for (int turn = 0; turn < 2 * most; ++turn) {
    const int fast_threads = 1 + turn / 2;
    const bool moves = turn % 2 == 1;
    if (moves && !attention_) continue;
    const SplitProblem problem = MakeSplitProblem(budgets, fast_threads, moves);
    const SplitSolution solution = SolveSplit(problem);
    if (!solution.found) continue;
    std::vector<int64_t> n_hot;
    std::vector<uint8_t> away;
    for (size_t l = 0; l < solution.choice.size(); ++l) {
      const SplitChoice& choice = problem.layers[l][solution.choice[l]];
      n_hot.push_back(choice.n_hot);
      away.push_back(choice.attends_away ? 1 : 0);
    }
    RatedSplit split = Rate(kOptimalSplit, std::move(n_hot), std::move(away));
    const auto unproven = static_cast<double>(solution.picoseconds - solution.least_picoseconds);
    least = std::min(
        least, split.ms_per_token - unproven / kPicosecondsPerMs / static_cast<double>(goal_.rows));
    if (!best.fits || split.ms_per_token < best.ms_per_token) best = std::move(split);
  }
  if (best.fits) best.least_ms_per_token = least;
  return best;
}

RatedSplit TimePlacer::Greedy(const Budgets& budgets) const {
  SolverProblem problem = problem_;
  problem.vram_bytes = budgets.vram_bytes;
  problem.ram_bytes = budgets.ram_bytes;
  const SolverResult result = SolvePlacementSizes(problem);
  if (result.outcome == SolverOutcome::kSolved) return Rate(kGreedySplit, result.n_hot);
  return {.strategy = kGreedySplit, .n_hot = {}, .away = {}, .time = {}};
}

RatedSplit TimePlacer::Uniform(const Budgets& budgets) const {
  for (int64_t k = CeilDiv(problem_.d_ff, kClusterNeurons); k >= 0; --k) {
    const int64_t n = std::min(k * kClusterNeurons, problem_.d_ff);
    std::vector<int64_t> n_hot;
    for (const SolverLayer& layer : problem_.layers) {
      n_hot.push_back(!layer.whole || n == problem_.d_ff ? n : 0);
    }
    if (Fits(n_hot, budgets)) return Rate(kUniformSplit, std::move(n_hot));
  }
  return {.strategy = kUniformSplit, .n_hot = {}, .away = {}, .time = {}};
}

// With their attention, where that can lie elsewhere.
RatedSplit TimePlacer::WholeLayers(const Budgets& budgets) const {
  for (size_t n = problem_.layers.size() + 1; n-- > 0;) {
    std::vector<int64_t> n_hot(problem_.layers.size(), 0);
    std::fill_n(n_hot.begin(), n, problem_.d_ff);
    std::vector<uint8_t> away(problem_.layers.size(), attention_ ? 1 : 0);
    std::fill_n(away.begin(), n, 0);
    if (Fits(n_hot, budgets, away)) return Rate(kLayerSplit, std::move(n_hot), std::move(away));
  }
  return {.strategy = kLayerSplit, .n_hot = {}, .away = {}, .time = {}};
}

std::vector<RatedSplit> TimePlacer::Explain(const Budgets& budgets) const {
  return {Optimal(budgets), Greedy(budgets), Uniform(budgets), WholeLayers(budgets)};
}

SolvedPlacement TimePlacer::Place(const Budgets& budgets) const {
  const RatedSplit best = Optimal(budgets);
  if (!best.fits) FailBudget(model_, budgets, WhatWouldFit(budgets), attention_.has_value());
  SolvedPlacement solved;
  solved.placement = ordered_;
  solved.placement.vram_budget_bytes = budgets.vram_bytes;
  solved.placement.ram_budget_bytes = budgets.ram_bytes;
  SetHot(&solved.placement, best.n_hot);
  SetAttention(&solved.placement, best.away);
  solved.placement.prediction = PredictionOf(best.ms_per_token);
  solved.plan = model_.PlanOf(&solved.placement);
  CHECK(solved.plan.total_bytes(0) <= budgets.vram_bytes);
  CHECK(solved.plan.total_bytes(1) <= budgets.ram_bytes);
  return solved;
}

// Which budget is too small, and the least that would do.
SolverResult TimePlacer::WhatWouldFit(const Budgets& budgets) const {
  if (!attention_) {
    SolverProblem problem = problem_;
    problem.vram_bytes = budgets.vram_bytes;
    problem.ram_bytes = budgets.ram_bytes;
    SolverResult result = SolvePlacementSizes(problem);
    CHECK(result.outcome != SolverOutcome::kSolved);
    return result;
  }
  const uint64_t least_vram =
      std::min(attention_->fast_fixed_bytes(0), problem_.fast_fixed_bytes(0));
  if (budgets.vram_bytes < least_vram) return {SolverOutcome::kVramTooSmall, {}, 0, least_vram};
  // Whatever time it takes: the least RAM with which there is a split.
  const auto fits = [&](uint64_t ram_bytes) {
    for (const bool moves : {false, true}) {
      SplitProblem problem = MakeSplitProblem({budgets.vram_bytes, ram_bytes}, 1, moves);
      for (auto& layer : problem.layers) {
        for (SplitChoice& choice : layer) choice.picoseconds = 0;
      }
      if (SolveSplit(problem).found) return true;
    }
    return false;
  };
  uint64_t too_small = budgets.ram_bytes;
  uint64_t enough = std::max<uint64_t>(2 * too_small, uint64_t{1} << 20);
  while (!fits(enough)) {
    too_small = enough;
    enough *= 2;
  }
  const uint64_t grain = std::max<uint64_t>(1024, enough >> 12);
  while (enough - too_small > grain) {
    const uint64_t middle = too_small + (enough - too_small) / 2;
    (fits(middle) ? enough : too_small) = middle;
  }
  return {SolverOutcome::kRamTooSmall, {}, 0, enough};
}

PlacementPrediction TimePlacer::Predict(const Placement& placement) const {
  std::vector<int64_t> n_hot;
  for (const LayerPlacement& layer : placement.layers) n_hot.push_back(layer.n_on[kVram]);
  return PredictionOf(costs_->Pass(n_hot, AttendsAway(placement)).total_ms() /
                      static_cast<double>(goal_.rows));
}

PlacementPrediction TimePlacer::PredictionOf(double ms_per_token) const {
  const MachineRates& rates = *goal_.rates;
  const double host = rates.ReadBytesPerSecond(model_.n_threads());
  return {.ms_per_token = ms_per_token,
          .mode = std::string(SparseModeName(goal_.mode)),
          .n_threads = model_.n_threads(),
          .context_tokens = goal_.context_tokens,
          .fast_bytes_per_s = costs_->fast_is_host() ? host : rates.gpu->read_bytes_per_s,
          .slow_bytes_per_s = host,
          .machine = rates.machine.Text()};
}

}  // namespace thermocline
