#include "profiler/activations/coverage.h"

#include <gtest/gtest.h>

#include <numeric>

#include "tests/profiler/profiler_testing.h"

namespace thermocline {
namespace {

// One layer of four neurons; the second is hottest.
ProfileStats SmallStats() {
  ProfileStats stats;
  stats.calibration.n_tokens = 10;
  stats.calibration.layers = {{{1, 8, 3, 0}, {1, 1, 1, 0}}};
  stats.heldout.n_tokens = 5;
  stats.heldout.layers = {{{2, 4, 1, 1}, {1, 1, 1, 1}}};
  return stats;
}

Placement SmallPlacement(int64_t n_vram) {
  Placement placement;
  placement.layers = {{{1, 2, 0, 3}, {n_vram, 4 - n_vram, 0}}};
  return placement;
}

TEST(CoverageTest, NumbersByHand) {
  const Placement placement = SmallPlacement(2);
  const CoverageReport report = MakeCoverageReport(SmallStats(), &placement, nullptr);
  const LayerCoverage& layer = report.layers.at(0);
  EXPECT_DOUBLE_EQ(layer.calibration_sparsity, 1 - 12.0 / 40);
  EXPECT_DOUBLE_EQ(layer.heldout_sparsity, 1 - 8.0 / 20);
  EXPECT_DOUBLE_EQ(layer.hottest[0].value(), 0);        // 10 % of 4 rounds to none
  EXPECT_DOUBLE_EQ(layer.hottest[1].value(), 4.0 / 8);  // 26 %: one
  EXPECT_DOUBLE_EQ(layer.hottest[2].value(), 5.0 / 8);
  EXPECT_EQ(layer.n_vram, 2);
  EXPECT_DOUBLE_EQ(layer.heldin.value(), 11.0 / 12);
  EXPECT_DOUBLE_EQ(layer.heldout.value(), 5.0 / 8);
  EXPECT_DOUBLE_EQ(layer.uniform.value(), 0.5);
  EXPECT_FALSE(layer.lru.has_value());
  EXPECT_DOUBLE_EQ(report.total.heldout.value(), 5.0 / 8);
}

TEST(CoverageTest, TotalsWeighLayersByTheirActivations) {
  ProfileStats stats = SmallStats();
  stats.calibration.layers.push_back({{10, 10, 10, 10}, {1, 1, 1, 1}});
  stats.heldout.layers.push_back({{5, 5, 5, 5}, {1, 1, 1, 1}});
  Placement placement = SmallPlacement(2);
  placement.layers.push_back({{0, 1, 2, 3}, {1, 3}});
  LruBaseline lru(4, {2, 1});
  lru.OnToken(0, std::vector<int32_t>{1, 2});
  lru.OnToken(0, std::vector<int32_t>{1});
  lru.OnToken(1, std::vector<int32_t>{3});
  const LayerCoverage total = MakeCoverageReport(stats, &placement, &lru).total;
  EXPECT_EQ(total.n_vram, 3);
  EXPECT_DOUBLE_EQ(total.heldout_sparsity, 1 - 28.0 / 40);
  EXPECT_DOUBLE_EQ(total.heldout.value(), 10.0 / 28);
  EXPECT_DOUBLE_EQ(total.uniform.value(), (8 * 0.5 + 20 * 0.25) / 28);
  EXPECT_DOUBLE_EQ(total.lru.value(), 1.0 / 4);
}

TEST(CoverageTest, EverythingHotCoversEverything) {
  const Placement placement = SmallPlacement(4);
  const LayerCoverage layer = MakeCoverageReport(SmallStats(), &placement, nullptr).layers.at(0);
  EXPECT_DOUBLE_EQ(layer.heldin.value(), 1);
  EXPECT_DOUBLE_EQ(layer.heldout.value(), 1);
  EXPECT_DOUBLE_EQ(layer.uniform.value(), 1);
}

TEST(CoverageTest, TheCurveByHand) {
  const CoverageCurve curve = MakeCoverageCurve(SmallStats(), 5);
  EXPECT_EQ(curve.shares, (std::vector<double>{0, 0.25, 0.5, 0.75, 1}));
  EXPECT_EQ(curve.calibration, (std::vector<double>{0, 8.0 / 12, 11.0 / 12, 1, 1}));
  EXPECT_EQ(curve.heldout, (std::vector<double>{0, 4.0 / 8, 5.0 / 8, 7.0 / 8, 1}));
}

TEST(CoverageTest, ActivityByRankByHand) {
  const auto bins = ActivityByRank(SmallStats(), 2);
  EXPECT_EQ(bins, (std::vector<std::vector<double>>{{(8 + 3) / 20.0, (1 + 0) / 20.0}}));
}

TEST(CoverageTest, NoActivationsHaveNoShares) {
  ProfileStats stats = SmallStats();
  stats.heldout.layers[0].count.assign(4, 0);
  const Placement placement = SmallPlacement(2);
  const LruBaseline lru(4, {2});
  const LayerCoverage layer = MakeCoverageReport(stats, &placement, &lru).layers.at(0);
  EXPECT_DOUBLE_EQ(layer.heldout_sparsity, 1);
  EXPECT_FALSE(layer.heldout.has_value());
  EXPECT_FALSE(layer.hottest[2].has_value());
  EXPECT_FALSE(layer.uniform.has_value());
  EXPECT_FALSE(layer.lru.has_value());
}

}  // namespace
}  // namespace thermocline
