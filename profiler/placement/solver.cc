#include "profiler/placement/solver.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <queue>

#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"
#include "runtime/placement/placement.h"

namespace thermocline {
namespace {

constexpr int64_t kMaxLimits = 64;  // steps of the grid of limits on a layer's share

// Neurons [begin, end) of a layer's order.
struct Cluster {
  size_t layer = 0;
  int64_t begin = 0;
  int64_t end = 0;
  uint64_t n_bytes = 0;  // on the fast tier
  int64_t benefit = 0;

  double benefit_per_byte() const {
    return static_cast<double>(benefit) / static_cast<double>(n_bytes);
  }
};

// Orders clusters by priority, lowest first. Ties go to the cluster nearer to its layer's start,
// which keeps shares even.
struct LessWanted {
  bool operator()(const Cluster& a, const Cluster& b) const {
    const double x = a.benefit_per_byte();
    const double y = b.benefit_per_byte();
    if (x != y) return x < y;
    if (a.begin != b.begin) return a.begin > b.begin;
    return a.layer > b.layer;
  }
};

Cluster ClusterAt(const SolverProblem& problem, size_t layer, int64_t begin) {
  const SolverLayer& l = problem.layers[layer];
  const int64_t end = l.whole ? problem.d_ff : std::min(begin + kClusterNeurons, problem.d_ff);
  const auto first = l.benefit.begin() + begin;
  return {layer, begin, end, static_cast<uint64_t>(end - begin) * l.fast_neuron_bytes,
          std::accumulate(first, first + (end - begin), int64_t{0})};
}

// Returns all clusters, best benefit per byte first, but each layer's in the layer's own order.
std::vector<Cluster> GreedyOrder(const SolverProblem& problem) {
  std::priority_queue<Cluster, std::vector<Cluster>, LessWanted> heads;
  for (size_t l = 0; l < problem.layers.size(); ++l) heads.push(ClusterAt(problem, l, 0));
  std::vector<Cluster> order;
  while (!heads.empty()) {
    order.push_back(heads.top());
    heads.pop();
    const Cluster& taken = order.back();
    if (taken.end < problem.d_ff) heads.push(ClusterAt(problem, taken.layer, taken.end));
  }
  return order;
}

// Returns the limits to try: 0, then ends of clusters up to d_ff.
std::vector<int64_t> Limits(int64_t d_ff) {
  const int64_t n_clusters = CeilDiv(d_ff, kClusterNeurons);
  const int64_t n_steps = std::min(n_clusters, kMaxLimits);
  std::vector<int64_t> limits;
  for (int64_t i = 0; i <= n_steps; ++i) {
    limits.push_back(std::min(i * n_clusters / n_steps * kClusterNeurons, d_ff));
  }
  return limits;
}

struct Filling {
  std::vector<int64_t> n_hot;
  int64_t benefit = 0;
  uint64_t hot_bytes = 0;
  uint64_t cold_bytes = 0;
  int64_t max_cold = 0;  // neurons of a layer on the slow tier
};

class Solver {
 public:
  explicit Solver(const SolverProblem& problem)
      : problem_(problem), order_(GreedyOrder(problem)), limits_(Limits(problem.d_ff)) {
    for (const int64_t limit : limits_) {
      fast_fixed_.push_back(problem.fast_fixed_bytes(limit));
      slow_fixed_.push_back(problem.slow_fixed_bytes(problem.d_ff - limit));
      floor_bytes_.push_back(FloorBytes(limit));
    }
  }

  SolverResult Solve() {
    if (problem_.vram_bytes < fast_fixed_[0]) {
      return {SolverOutcome::kVramTooSmall, {}, 0, fast_fixed_[0]};
    }
    for (size_t floor = 0; floor < limits_.size(); ++floor) {
      for (size_t cap = floor; cap < limits_.size(); ++cap) Try(floor, cap);
    }
    if (!best_) return {SolverOutcome::kRamTooSmall, {}, 0, least_ram_};
    return {SolverOutcome::kSolved, best_->n_hot, best_->benefit, 0};
  }

 private:
  // floor, cap: indices into limits_.
  void Try(size_t floor, size_t cap) {
    const std::optional<Filling> filling = Fill(floor, limits_[cap], fast_fixed_[cap]);
    if (!filling) return;
    // A layer that lies on the slow tier whole has all its neurons there, whatever the floor is.
    const bool all_cold = filling->max_cold == problem_.d_ff;
    const uint64_t slow_bytes = filling->cold_bytes + slow_fixed_[all_cold ? 0 : floor];
    least_ram_ = std::min(least_ram_, slow_bytes);
    if (slow_bytes > problem_.ram_bytes) return;
    const bool better =
        !best_ || filling->benefit > best_->benefit ||
        (filling->benefit == best_->benefit && filling->hot_bytes > best_->hot_bytes);
    if (better) best_ = filling;
  }

  // What a layer has on the fast tier before the filling.
  int64_t FloorOf(const SolverLayer& layer, int64_t floor) const {
    return layer.whole && floor < problem_.d_ff ? 0 : floor;
  }
  uint64_t FloorBytes(int64_t floor) const {
    uint64_t n_bytes = 0;
    for (const SolverLayer& layer : problem_.layers) {
      n_bytes += static_cast<uint64_t>(FloorOf(layer, floor)) * layer.fast_neuron_bytes;
    }
    return n_bytes;
  }

  // Gives every layer the neurons of the floor, then clusters in greedy order up to `cap` while
  // they fit. A layer whose next cluster does not fit is full, since its share is a prefix of its
  // order.
  std::optional<Filling> Fill(size_t floor_index, int64_t cap, uint64_t fixed) const {
    const uint64_t floor_bytes = floor_bytes_[floor_index];
    if (fixed > problem_.vram_bytes || floor_bytes > problem_.vram_bytes - fixed) return {};
    uint64_t left = problem_.vram_bytes - fixed - floor_bytes;
    Filling filling;
    for (const SolverLayer& layer : problem_.layers) {
      filling.n_hot.push_back(FloorOf(layer, limits_[floor_index]));
    }
    filling.hot_bytes = floor_bytes;
    for (const Cluster& c : order_) {
      int64_t& n_hot = filling.n_hot[c.layer];
      if (c.end <= FloorOf(problem_.layers[c.layer], limits_[floor_index])) {
        filling.benefit += c.benefit;
      }
      if (c.begin != n_hot || c.end > cap || c.n_bytes > left) continue;
      n_hot = c.end;
      left -= c.n_bytes;
      filling.hot_bytes += c.n_bytes;
      filling.benefit += c.benefit;
    }
    for (size_t l = 0; l < problem_.layers.size(); ++l) {
      const int64_t n_cold = problem_.d_ff - filling.n_hot[l];
      filling.cold_bytes += static_cast<uint64_t>(n_cold) * problem_.layers[l].slow_neuron_bytes;
      filling.max_cold = std::max(filling.max_cold, n_cold);
    }
    return filling;
  }

  const SolverProblem& problem_;
  std::vector<Cluster> order_;
  std::vector<int64_t> limits_;
  std::vector<uint64_t> fast_fixed_;   // bytes with no layer over limits_[i] hot
  std::vector<uint64_t> slow_fixed_;   // bytes with every layer at limits_[i] hot or more
  std::vector<uint64_t> floor_bytes_;  // bytes on the fast tier with limits_[i] hot in every layer
  std::optional<Filling> best_;
  uint64_t least_ram_ = UINT64_MAX;
};

}  // namespace

SolverResult SolvePlacementSizes(const SolverProblem& problem) {
  CHECK(problem.d_ff > 0 && !problem.layers.empty());
  for (const SolverLayer& layer : problem.layers) {
    CHECK(static_cast<int64_t>(layer.benefit.size()) == problem.d_ff);
    CHECK(layer.fast_neuron_bytes > 0 && layer.slow_neuron_bytes > 0);
  }
  return Solver(problem).Solve();
}

}  // namespace thermocline
