#include "profiler/activations/coverage.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

// Sums over one layer, or over all of them.
struct Sums {
  double neurons = 0;
  double calibration_active = 0;
  double heldout_active = 0;
  std::array<double, kHottestFractions.size()> hottest{};
  int64_t n_vram = 0;
  double heldin_covered = 0;
  double heldout_covered = 0;
  double uniform_covered = 0;
  double lru_hits = 0;
  double lru_lookups = 0;

  void Add(const Sums& other) {
    neurons += other.neurons;
    calibration_active += other.calibration_active;
    heldout_active += other.heldout_active;
    for (size_t i = 0; i < hottest.size(); ++i) hottest[i] += other.hottest[i];
    n_vram += other.n_vram;
    heldin_covered += other.heldin_covered;
    heldout_covered += other.heldout_covered;
    uniform_covered += other.uniform_covered;
    lru_hits += other.lru_hits;
    lru_lookups += other.lru_lookups;
  }
};

double Total(const std::vector<int64_t>& counts) {
  return static_cast<double>(std::accumulate(counts.begin(), counts.end(), int64_t{0}));
}

std::optional<double> Ratio(double part, double whole) {
  if (whole <= 0) return std::nullopt;
  return part / whole;
}

// Adds the held-out activations of the neurons hottest in calibration, for each fraction.
void AddHottest(const LayerActivity& calibration, const LayerActivity& heldout, Sums* sums) {
  std::vector<size_t> order(calibration.count.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return calibration.count[a] > calibration.count[b]; });
  for (size_t f = 0; f < kHottestFractions.size(); ++f) {
    const auto n =
        static_cast<size_t>(std::llround(kHottestFractions[f] * static_cast<double>(order.size())));
    for (size_t i = 0; i < n; ++i) {
      sums->hottest[f] += static_cast<double>(heldout.count[order[i]]);
    }
  }
}

Sums LayerSums(const ProfileStats& stats, const Placement* placement, const LruBaseline* lru,
               size_t layer) {
  const LayerActivity& calibration = stats.calibration.layers[layer];
  const LayerActivity& heldout = stats.heldout.layers[layer];
  Sums sums;
  sums.neurons = static_cast<double>(stats.d_ff());
  sums.calibration_active = Total(calibration.count);
  sums.heldout_active = Total(heldout.count);
  AddHottest(calibration, heldout, &sums);
  if (placement != nullptr) {
    const LayerPlacement& p = placement->layers[layer];
    sums.n_vram = p.n_on[kVram];
    for (int64_t i = 0; i < p.n_on[kVram]; ++i) {
      const auto id = static_cast<size_t>(p.neuron_order[static_cast<size_t>(i)]);
      sums.heldin_covered += static_cast<double>(calibration.count[id]);
      sums.heldout_covered += static_cast<double>(heldout.count[id]);
    }
    sums.uniform_covered = sums.heldout_active * static_cast<double>(p.n_on[kVram]) / sums.neurons;
  }
  if (lru != nullptr) {
    sums.lru_hits = static_cast<double>(lru->hits(static_cast<int64_t>(layer)));
    sums.lru_lookups = static_cast<double>(lru->lookups(static_cast<int64_t>(layer)));
  }
  return sums;
}

LayerCoverage CoverageOf(const Sums& sums, const ProfileStats& stats, bool placed) {
  LayerCoverage c;
  const double calibration_tokens = static_cast<double>(stats.calibration.n_tokens);
  const double heldout_tokens = static_cast<double>(stats.heldout.n_tokens);
  c.calibration_sparsity = 1 - sums.calibration_active / (calibration_tokens * sums.neurons);
  c.heldout_sparsity = 1 - sums.heldout_active / (heldout_tokens * sums.neurons);
  for (size_t i = 0; i < c.hottest.size(); ++i) {
    c.hottest[i] = Ratio(sums.hottest[i], sums.heldout_active);
  }
  if (placed) {
    c.n_vram = sums.n_vram;
    c.heldin = Ratio(sums.heldin_covered, sums.calibration_active);
    c.heldout = Ratio(sums.heldout_covered, sums.heldout_active);
    c.uniform = Ratio(sums.uniform_covered, sums.heldout_active);
  }
  c.lru = Ratio(sums.lru_hits, sums.lru_lookups);
  return c;
}

}  // namespace

CoverageReport MakeCoverageReport(const ProfileStats& stats, const Placement* placement,
                                  const LruBaseline* lru) {
  CHECK(placement == nullptr || placement->layers.size() == stats.calibration.layers.size());
  CoverageReport report;
  Sums total;
  for (size_t layer = 0; layer < stats.calibration.layers.size(); ++layer) {
    const Sums sums = LayerSums(stats, placement, lru, layer);
    report.layers.push_back(CoverageOf(sums, stats, placement != nullptr));
    total.Add(sums);
  }
  report.total = CoverageOf(total, stats, placement != nullptr);
  return report;
}

}  // namespace thermocline
