// Placements for a GPU: a budget holds all that a run puts there, its own scratch included.
#include "profiler/place.h"
#include "tests/gpu_tier/gpu_tier_fixture.h"

namespace thermocline {
namespace {

using GpuPlaceTest = GpuTier;

// Every neuron about as active as the next; of one layer, a little more.
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
  constexpr uint64_t kPlenty = uint64_t{1} << 40;
  for (const StreamCold stream : {StreamCold::kOff, StreamCold::kOn}) {
    EngineOptions options = Options({.model = Golden("gqa_relu"), .stream = stream});
    const OpenedModel model(options);
    const ProfileStats stats = SomeActivity(model.config());
    const uint64_t least = PlaceFraction(model, stats, 0, kPlenty).plan.fast_total_bytes();
    const uint64_t whole = PlaceFraction(model, stats, 1, kPlenty).plan.fast_total_bytes();
    int n_solved = 0;
    for (int part = 0; part <= 12; ++part) {
      const uint64_t vram = least / 2 + (whole - least / 2) * static_cast<uint64_t>(part) / 8;
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
      const Engine engine(options);
      const MemoryPlan plan = engine.model().Plan();
      EXPECT_LE(plan.fast_total_bytes(), vram);
      EXPECT_EQ(plan.fast_total_bytes(), solved.plan.fast_total_bytes());
      EXPECT_EQ(plan.slow_total_bytes(), solved.plan.slow_total_bytes());
      EXPECT_GT(plan.fast_scratch_bytes, uint64_t{32} << 20) << "the GPU's panels are not in it";
    }
    EXPECT_GT(n_solved, 5);
    EXPECT_THROW(Place(model, stats, {least / 2, kPlenty}), Error);
  }
}

}  // namespace
}  // namespace thermocline
