#include "profiler/placement/place_by_time.h"

#include <algorithm>
#include <cmath>

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
                        .n_threads = model.n_threads()};
  costs_.emplace(model, stats, orders_, *goal.rates, shape);
}

// Attention stays on the fast tier: the executor's first tier computes all but the FFNs of neurons
// that lie on others. A layer whose attention could move would have its choices twice.
SplitProblem TimePlacer::MakeSplitProblem(const Budgets& budgets, int fast_threads) const {
  SplitProblem split;
  const int64_t d_ff = problem_.d_ff;
  for (size_t l = 0; l < problem_.layers.size(); ++l) {
    const SolverLayer& layer = problem_.layers[l];
    std::vector<SplitChoice>& choices = split.layers.emplace_back();
    for (int64_t k = 0; k <= CeilDiv(d_ff, kClusterNeurons); ++k) {
      const int64_t n_hot = std::min(k * kClusterNeurons, d_ff);
      if (layer.whole && n_hot != 0 && n_hot != d_ff) continue;
      const LayerTime time = costs_->Layer(static_cast<int64_t>(l), n_hot, fast_threads);
      choices.push_back({n_hot, d_ff - n_hot, std::llround(time.ffn_ms * kPicosecondsPerMs),
                         static_cast<uint64_t>(n_hot) * layer.fast_neuron_bytes,
                         static_cast<uint64_t>(d_ff - n_hot) * layer.slow_neuron_bytes});
    }
  }
  split.fast_fixed_bytes = problem_.fast_fixed_bytes;
  split.slow_fixed_bytes = problem_.slow_fixed_bytes;
  split.vram_bytes = budgets.vram_bytes;
  split.ram_bytes = budgets.ram_bytes;
  const std::vector<int64_t> none(problem_.layers.size(), 0);
  split.tolerance_picoseconds =
      std::llround(kTolerance * kPicosecondsPerMs * costs_->Pass(none).total_ms());
  return split;
}

RatedSplit TimePlacer::Rate(const char* strategy, std::vector<int64_t> n_hot) const {
  RatedSplit split{.strategy = strategy, .fits = true, .n_hot = std::move(n_hot), .time = {}};
  split.time = costs_->Pass(split.n_hot);
  split.ms_per_token = split.time.total_ms() / static_cast<double>(goal_.rows);
  split.least_ms_per_token = split.ms_per_token;
  for (size_t l = 0; l < split.n_hot.size(); ++l) {
    const auto hot = static_cast<uint64_t>(split.n_hot[l]);
    split.fast_bytes += hot * problem_.layers[l].fast_neuron_bytes;
    split.slow_bytes +=
        (static_cast<uint64_t>(problem_.d_ff) - hot) * problem_.layers[l].slow_neuron_bytes;
  }
  return split;
}

bool TimePlacer::Fits(const std::vector<int64_t>& n_hot, const Budgets& budgets) const {
  Placement placement;
  placement.layers.resize(n_hot.size());
  for (size_t l = 0; l < n_hot.size(); ++l) {
    placement.layers[l].n_on[kVram] = n_hot[l];
    placement.layers[l].n_on[kDram] = problem_.d_ff - n_hot[l];
  }
  const MemoryPlan plan = model_.PlanOf(&placement);
  return plan.total_bytes(0) <= budgets.vram_bytes && plan.total_bytes(1) <= budgets.ram_bytes;
}

// Where both tiers are the host's, times depend on how its threads are shared out, and that on the
// split: every way to share them is tried, and each split rated by the way it leads to.
RatedSplit TimePlacer::Optimal(const Budgets& budgets) const {
  const std::vector<int64_t> all(problem_.layers.size(), problem_.d_ff);
  if (Fits(all, budgets)) return Rate(kOptimalSplit, all);
  const int n_threads = costs_->shape().n_threads;
  const int most = costs_->fast_is_host() ? std::max(1, n_threads - 1) : 1;
  RatedSplit best{.strategy = kOptimalSplit, .n_hot = {}, .time = {}};
  for (int fast_threads = 1; fast_threads <= most; ++fast_threads) {
    const SplitProblem problem = MakeSplitProblem(budgets, fast_threads);
    const SplitSolution solution = SolveSplit(problem);
    if (!solution.found) return best;
    std::vector<int64_t> n_hot;
    for (size_t l = 0; l < solution.choice.size(); ++l) {
      n_hot.push_back(problem.layers[l][solution.choice[l]].n_hot);
    }
    RatedSplit split = Rate(kOptimalSplit, std::move(n_hot));
    const auto unproven = static_cast<double>(solution.picoseconds - solution.least_picoseconds);
    split.least_ms_per_token -= unproven / kPicosecondsPerMs / static_cast<double>(goal_.rows);
    if (!best.fits || split.ms_per_token < best.ms_per_token) best = std::move(split);
  }
  return best;
}

RatedSplit TimePlacer::Greedy(const Budgets& budgets) const {
  SolverProblem problem = problem_;
  problem.vram_bytes = budgets.vram_bytes;
  problem.ram_bytes = budgets.ram_bytes;
  const SolverResult result = SolvePlacementSizes(problem);
  if (result.outcome == SolverOutcome::kSolved) return Rate(kGreedySplit, result.n_hot);
  return {.strategy = kGreedySplit, .n_hot = {}, .time = {}};
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
  return {.strategy = kUniformSplit, .n_hot = {}, .time = {}};
}

RatedSplit TimePlacer::WholeLayers(const Budgets& budgets) const {
  for (size_t n = problem_.layers.size() + 1; n-- > 0;) {
    std::vector<int64_t> n_hot(problem_.layers.size(), 0);
    std::fill_n(n_hot.begin(), n, problem_.d_ff);
    if (Fits(n_hot, budgets)) return Rate(kLayerSplit, std::move(n_hot));
  }
  return {.strategy = kLayerSplit, .n_hot = {}, .time = {}};
}

std::vector<RatedSplit> TimePlacer::Explain(const Budgets& budgets) const {
  return {Optimal(budgets), Greedy(budgets), Uniform(budgets), WholeLayers(budgets)};
}

SolvedPlacement TimePlacer::Place(const Budgets& budgets) const {
  const RatedSplit best = Optimal(budgets);
  if (!best.fits) {
    SolverProblem problem = problem_;
    problem.vram_bytes = budgets.vram_bytes;
    problem.ram_bytes = budgets.ram_bytes;
    const SolverResult result = SolvePlacementSizes(problem);
    CHECK(result.outcome != SolverOutcome::kSolved);
    FailBudget(model_, budgets, result);
  }
  SolvedPlacement solved;
  solved.placement = ordered_;
  solved.placement.vram_budget_bytes = budgets.vram_bytes;
  solved.placement.ram_budget_bytes = budgets.ram_bytes;
  SetHot(&solved.placement, best.n_hot);
  solved.placement.prediction = PredictionOf(best.ms_per_token);
  solved.plan = model_.PlanOf(&solved.placement);
  CHECK(solved.plan.total_bytes(0) <= budgets.vram_bytes);
  CHECK(solved.plan.total_bytes(1) <= budgets.ram_bytes);
  return solved;
}

PlacementPrediction TimePlacer::Predict(const Placement& placement) const {
  std::vector<int64_t> n_hot;
  for (const LayerPlacement& layer : placement.layers) n_hot.push_back(layer.n_on[kVram]);
  return PredictionOf(costs_->Pass(n_hot).total_ms() / static_cast<double>(goal_.rows));
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
