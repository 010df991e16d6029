// Placements for a GPU: a budget holds all that a run puts there, its own scratch included.
#include <algorithm>

#include "gpu_kernels/base/device_memory.h"
#include "gpu_kernels/base/gpu_support.h"
#include "profiler/placement/place.h"
#include "profiler/placement/place_by_time.h"
#include "runtime/core/error.h"
#include "tests/gpu_tier/gpu_tier_fixture.h"
#include "tests/rates/fixed_rates.h"

namespace thermocline {
namespace {

using GpuPlaceTest = GpuTier;

// Makes every neuron about as active as the next, and those of one layer a little more.
ProfileStats SomeActivity(const ModelConfig& config) {
  ProfileStats stats = NoActivity(config);
  for (size_t l = 0; l < stats.calibration.layers.size(); ++l) {
    auto& count = stats.calibration.layers[l].count;
    for (size_t i = 0; i < count.size(); ++i) {
      count[i] = 100 + static_cast<int64_t>(i % 7) + (l == 0 ? 5 : 0);
    }
  }
  return stats;
}

TEST_F(GpuPlaceTest, WhatARunPlansFitsTheBudgets) {
  constexpr uint64_t kSmallBuffers = 16 << 10;  // counters, and what rounding makes of sizes
  constexpr uint64_t kPlenty = uint64_t{1} << 40;
  for (const StreamCold stream : {StreamCold::kOff, StreamCold::kOn}) {
    EngineOptions options = Options({.model = Golden("gqa_relu"), .stream = stream});
    const OpenedModel model(options);
    const ProfileStats stats = SomeActivity(model.config());
    const uint64_t least = PlaceFraction(model, stats, 0, kPlenty).plan.total_bytes(0);
    const uint64_t whole = PlaceFraction(model, stats, 1, kPlenty).plan.total_bytes(0);
    const uint64_t most = std::max(least, whole) + (whole - whole / 2);
    int n_solved = 0;
    for (uint64_t part = 0; part <= 12; ++part) {
      const uint64_t vram = least + (most - least) * part / 12;
      SolvedPlacement solved;
      try {
        solved = Place(model, stats, {vram, kPlenty});
      } catch (const Error&) {
        EXPECT_EQ(n_solved, 0) << "less was enough";
        continue;
      }
      ++n_solved;
      options.placement_path = dir_.file("placed");
      WritePlacement(options.placement_path, solved.placement);
      const uint64_t free_bytes = QueryDeviceMemory().free_bytes;
      const Engine engine(options);
      const uint64_t used_bytes = free_bytes - QueryDeviceMemory().free_bytes;
      const MemoryPlan plan = engine.model().Plan();
      EXPECT_LE(plan.total_bytes(0), vram);
      EXPECT_EQ(plan.total_bytes(0), solved.plan.total_bytes(0));
      EXPECT_EQ(plan.total_bytes(1), solved.plan.total_bytes(1));
      // A real card gives memory in larger pieces, and gives it to others, too.
      if (!QueryGpuSupport().emulated) continue;
      EXPECT_LE(used_bytes, plan.total_bytes(0) + kSmallBuffers);
      EXPECT_GE(used_bytes + kSmallBuffers, plan.total_bytes(0));
    }
    EXPECT_GT(n_solved, 5);
    EXPECT_THROW(Place(model, stats, {least / 2, kPlenty}), Error);
  }
}

// By rates that are made up, of a GPU ten times as fast as the host.
TEST_F(GpuPlaceTest, SplitsByTimeKeepTheBudgetsAndNoOtherIsFaster) {
  constexpr uint64_t kPlenty = uint64_t{1} << 40;
  const OpenedModel model(Options({.model = Golden("gqa_relu")}));
  const ProfileStats stats = SomeActivity(model.config());
  const MachineRates rates = FixedRates(/*gpu=*/true);
  const TimePlacer placer(model, stats, {.rates = &rates, .mode = SparseMode::kExact});
  const uint64_t least = PlaceFraction(model, stats, 0, kPlenty).plan.total_bytes(0);
  const uint64_t whole = PlaceFraction(model, stats, 1, kPlenty).plan.total_bytes(0);
  const uint64_t most = std::max(least, whole);
  int n_fit = 0;
  for (uint64_t part = 0; part <= 8; ++part) {
    const Budgets budgets{least + (most - least) * part / 8, kPlenty};
    const std::vector<RatedSplit> splits = placer.Explain(budgets);
    if (!splits[0].fits) continue;
    ++n_fit;
    for (const RatedSplit& split : splits) {
      if (!split.fits) continue;
      EXPECT_LE(splits[0].ms_per_token, split.ms_per_token * 1.0001) << split.strategy;
    }
    const SolvedPlacement solved = placer.Place(budgets);
    EXPECT_LE(solved.plan.total_bytes(0), budgets.vram_bytes);
    ASSERT_TRUE(solved.placement.prediction.has_value());
    EXPECT_EQ(solved.placement.prediction->fast_bytes_per_s, rates.gpu->read_bytes_per_s);
  }
  EXPECT_GT(n_fit, 4);
}

}  // namespace
}  // namespace thermocline
