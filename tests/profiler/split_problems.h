// Splits to solve: random ones, and what simpler ways make of them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <optional>
#include <random>
#include <vector>

#include "profiler/placement/split_solver.h"

namespace thermocline {

inline uint64_t NumberUpTo(std::mt19937& random, uint64_t most) { return random() % (most + 1); }

// Fixed bytes are base + slope * limit, which a linear program can say, too.
struct ProblemToSplit {
  SplitProblem problem;
  uint64_t fast_base = 0;
  uint64_t fast_slope = 0;
  uint64_t slow_slope = 0;
};

struct SplitShape {
  uint64_t n_layers = 1;
  int64_t n_clusters = 1;
};

inline void SetFixedBytes(ProblemToSplit* split) {
  const uint64_t base = split->fast_base;
  const uint64_t fast = split->fast_slope;
  const uint64_t slow = split->slow_slope;
  split->problem.fast_fixed_bytes = [=](int64_t n) {
    return base + fast * static_cast<uint64_t>(n);
  };
  split->problem.slow_fixed_bytes = [=](int64_t n) { return slow * static_cast<uint64_t>(n); };
}

// A layer whose neurons fire less and less: reading them takes a part that all cost (gates) and one
// by how often they fire, on both tiers at once, and a hand-over where both work.
inline std::vector<SplitChoice> MakeLayer(int64_t n_clusters, uint64_t bytes,
                                          std::mt19937& random) {
  std::vector<int64_t> active;
  for (int64_t i = 0; i < n_clusters; ++i) {
    active.push_back(static_cast<int64_t>(NumberUpTo(random, 100)));
  }
  std::ranges::sort(active, std::greater<>());
  const auto fast = static_cast<int64_t>(1 + NumberUpTo(random, 4));
  const auto slow = static_cast<int64_t>(1 + NumberUpTo(random, 9));
  const auto gate = static_cast<int64_t>(NumberUpTo(random, 40));
  const auto handover = static_cast<int64_t>(NumberUpTo(random, 2) * NumberUpTo(random, 400));
  const int64_t all = std::accumulate(active.begin(), active.end(), int64_t{0});
  std::vector<SplitChoice> layer;
  int64_t hot = 0;
  for (int64_t k = 0; k <= n_clusters; ++k) {
    const int64_t t_fast = fast * (gate * k + hot);
    const int64_t t_slow = slow * (gate * (n_clusters - k) + all - hot);
    const bool both = k > 0 && k < n_clusters;
    layer.push_back({k, n_clusters - k, std::max(t_fast, t_slow) + (both ? handover : 0),
                     bytes * static_cast<uint64_t>(k),
                     bytes * static_cast<uint64_t>(n_clusters - k)});
    if (k < n_clusters) hot += active[static_cast<size_t>(k)];
  }
  return layer;
}

inline ProblemToSplit MakeProblemAtRandom(const SplitShape& shape, std::mt19937& random) {
  ProblemToSplit split;
  split.fast_base = NumberUpTo(random, 20);
  split.fast_slope = NumberUpTo(random, 5);
  split.slow_slope = NumberUpTo(random, 5);
  SetFixedBytes(&split);
  const bool equal = NumberUpTo(random, 1) == 0;
  const uint64_t bytes = 1 + NumberUpTo(random, 9);
  uint64_t all = 0;
  for (uint64_t l = 0; l < shape.n_layers; ++l) {
    const uint64_t own = equal ? bytes : 1 + NumberUpTo(random, 9);
    split.problem.layers.push_back(MakeLayer(shape.n_clusters, own, random));
    // Now and then times that follow no rule.
    if (NumberUpTo(random, 4) == 0) {
      for (SplitChoice& c : split.problem.layers.back()) {
        c.picoseconds = static_cast<int64_t>(NumberUpTo(random, 1000));
      }
    }
    all += own * static_cast<uint64_t>(shape.n_clusters);
  }
  split.problem.vram_bytes = NumberUpTo(random, all + all / 2 + 40);
  split.problem.ram_bytes =
      NumberUpTo(random, 1) == 0 ? 10 * all + 1000 : NumberUpTo(random, all + all / 2);
  return split;
}

// Of the size of a model: times in picoseconds, bytes of neurons of some KB.
inline ProblemToSplit MakeLargeSplit(uint64_t n_layers, int64_t n_clusters, double vram_share,
                                     std::mt19937& random) {
  ProblemToSplit split;
  split.fast_base = uint64_t{600} << 20;
  split.fast_slope = 4096 * 32;
  split.slow_slope = 4096 * 32;
  SetFixedBytes(&split);
  constexpr uint64_t kBytes = 32 * 13824;
  for (uint64_t l = 0; l < n_layers; ++l) {
    const double exponent = 0.2 + 0.1 * static_cast<double>(NumberUpTo(random, 10));
    std::vector<SplitChoice> layer;
    double hot = 0;
    double all = 0;
    const auto active = [&](int64_t k) { return std::pow(static_cast<double>(k + 1), -exponent); };
    for (int64_t k = 0; k < n_clusters; ++k) all += active(k);
    for (int64_t k = 0; k <= n_clusters; ++k) {
      const auto n = static_cast<double>(k);
      const double t_fast = 1e6 * (0.5 * n + 0.5 * hot);
      const double t_slow = 1e7 * (0.5 * (static_cast<double>(n_clusters) - n) + 0.5 * (all - hot));
      const bool both = k > 0 && k < n_clusters;
      layer.push_back({32 * k, 32 * (n_clusters - k),
                       std::llround(std::max(t_fast, t_slow) + (both ? 1.5e7 : 0)),
                       kBytes * static_cast<uint64_t>(k),
                       kBytes * static_cast<uint64_t>(n_clusters - k)});
      if (k < n_clusters) hot += active(k);
    }
    split.problem.layers.push_back(std::move(layer));
  }
  const double all_bytes =
      static_cast<double>(n_layers * static_cast<uint64_t>(n_clusters) * kBytes);
  split.problem.vram_bytes =
      split.fast_base + split.fast_slope * 32 + static_cast<uint64_t>(vram_share * all_bytes);
  split.problem.ram_bytes = uint64_t{1} << 45;
  return split;
}

inline int64_t TimeOf(const SplitProblem& problem, const std::vector<size_t>& choice) {
  int64_t time = 0;
  for (size_t l = 0; l < choice.size(); ++l) time += problem.layers[l][choice[l]].picoseconds;
  return time;
}

inline bool Keeps(const SplitProblem& problem, const std::vector<size_t>& choice) {
  int64_t max_hot = 0;
  int64_t max_cold = 0;
  uint64_t fast = 0;
  uint64_t slow = 0;
  for (size_t l = 0; l < choice.size(); ++l) {
    const SplitChoice& c = problem.layers[l][choice[l]];
    max_hot = std::max(max_hot, c.n_hot);
    max_cold = std::max(max_cold, c.n_cold);
    fast += c.fast_bytes;
    slow += c.slow_bytes;
  }
  return fast + problem.fast_fixed_bytes(max_hot) <= problem.vram_bytes &&
         slow + problem.slow_fixed_bytes(max_cold) <= problem.ram_bytes;
}

// The least time, by going through all splits.
inline std::optional<int64_t> BestByTrying(const SplitProblem& problem) {
  std::vector<size_t> choice(problem.layers.size());
  std::optional<int64_t> best;
  while (true) {
    if (Keeps(problem, choice)) {
      const int64_t time = TimeOf(problem, choice);
      if (!best || time < *best) best = time;
    }
    size_t l = 0;
    while (l < choice.size() && ++choice[l] == problem.layers[l].size()) choice[l++] = 0;
    if (l == choice.size()) return best;
  }
}

// What keeps the budgets of: the same share in every layer, whole layers one after the other, and
// the cluster that saves most per byte as long as there is room.
inline std::vector<std::vector<size_t>> SimpleSplits(const SplitProblem& problem) {
  std::vector<std::vector<size_t>> splits;
  const auto keep = [&](const std::vector<size_t>& choice) {
    if (Keeps(problem, choice)) splits.push_back(choice);
  };
  const size_t n_choices = problem.layers.front().size();
  for (size_t k = 0; k < n_choices; ++k) keep(std::vector<size_t>(problem.layers.size(), k));
  std::vector<size_t> whole(problem.layers.size(), 0);
  for (size_t& k : whole) {
    keep(whole);
    k = n_choices - 1;
  }
  keep(whole);
  std::vector<size_t> greedy(problem.layers.size(), 0);
  while (true) {
    double most = 0;
    size_t at = 0;
    for (size_t l = 0; l < greedy.size(); ++l) {
      if (greedy[l] + 1 >= n_choices) continue;
      const SplitChoice& from = problem.layers[l][greedy[l]];
      const SplitChoice& to = problem.layers[l][greedy[l] + 1];
      const double saved = static_cast<double>(from.picoseconds - to.picoseconds) /
                           static_cast<double>(to.fast_bytes - from.fast_bytes);
      if (saved <= most) continue;
      ++greedy[l];
      const bool fits = Keeps(problem, greedy);
      --greedy[l];
      if (!fits) continue;
      most = saved;
      at = l;
    }
    if (most == 0) break;
    ++greedy[at];
  }
  keep(greedy);
  return splits;
}

}  // namespace thermocline
