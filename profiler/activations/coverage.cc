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

std::vector<size_t> HottestFirst(const LayerActivity& calibration) {
  std::vector<size_t> order(calibration.count.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return calibration.count[a] > calibration.count[b]; });
  return order;
}

size_t ShareOf(double share, size_t n) {
  return static_cast<size_t>(std::llround(share * static_cast<double>(n)));
}

// Adds the held-out activations of the neurons hottest in calibration, for each fraction.
void AddHottest(const LayerActivity& calibration, const LayerActivity& heldout, Sums* sums) {
  const std::vector<size_t> order = HottestFirst(calibration);
  for (size_t f = 0; f < kHottestFractions.size(); ++f) {
    const size_t n = ShareOf(kHottestFractions[f], order.size());
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

CoverageCurve MakeCoverageCurve(const ProfileStats& stats, size_t n_points) {
  CHECK(n_points >= 2);
  CoverageCurve curve;
  for (size_t i = 0; i < n_points; ++i) {
    curve.shares.push_back(static_cast<double>(i) / static_cast<double>(n_points - 1));
  }
  curve.calibration.resize(n_points);
  curve.heldout.resize(n_points);
  double calibration_total = 0;
  double heldout_total = 0;
  for (size_t l = 0; l < stats.calibration.layers.size(); ++l) {
    const LayerActivity& calibration = stats.calibration.layers[l];
    const LayerActivity& heldout = stats.heldout.layers[l];
    const std::vector<size_t> order = HottestFirst(calibration);
    double calibration_sum = 0;
    double heldout_sum = 0;
    size_t n = 0;
    for (size_t i = 0; i < n_points; ++i) {
      for (; n < ShareOf(curve.shares[i], order.size()); ++n) {
        calibration_sum += static_cast<double>(calibration.count[order[n]]);
        heldout_sum += static_cast<double>(heldout.count[order[n]]);
      }
      curve.calibration[i] += calibration_sum;
      curve.heldout[i] += heldout_sum;
    }
    calibration_total += calibration_sum;
    heldout_total += heldout_sum;
  }
  for (double& covered : curve.calibration) covered = Ratio(covered, calibration_total).value_or(0);
  for (double& covered : curve.heldout) covered = Ratio(covered, heldout_total).value_or(0);
  return curve;
}

std::vector<std::vector<double>> ActivityByRank(const ProfileStats& stats, size_t n_bins) {
  std::vector<std::vector<double>> layers;
  for (const LayerActivity& layer : stats.calibration.layers) {
    const std::vector<size_t> order = HottestFirst(layer);
    CHECK(n_bins >= 1 && n_bins <= order.size());
    std::vector<double>& bins = layers.emplace_back();
    for (size_t bin = 0; bin < n_bins; ++bin) {
      const size_t begin = bin * order.size() / n_bins;
      const size_t end = (bin + 1) * order.size() / n_bins;
      double sum = 0;
      for (size_t i = begin; i < end; ++i) sum += static_cast<double>(layer.count[order[i]]);
      bins.push_back(sum / static_cast<double>(end - begin) /
                     static_cast<double>(std::max<int64_t>(stats.calibration.n_tokens, 1)));
    }
  }
  return layers;
}

}  // namespace thermocline
