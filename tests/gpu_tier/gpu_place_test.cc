// Placements for a GPU: a budget holds all that a run puts there, its own scratch included.
#include <algorithm>
#include <limits>

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
    options.plan_moves = true;
    const OpenedModel model(options);
    const ProfileStats stats = SomeActivity(model.config());
    const uint64_t least = PlaceFraction(model, stats, 0, kPlenty).plan.total_bytes(0);
    const MemoryPlan all_hot = PlaceFraction(model, stats, 1, kPlenty).plan;
    const uint64_t whole = all_hot.total_bytes(0);
    // Between nothing and all of the neurons, and with what streams them or without.
    std::vector<uint64_t> budgets = {whole, whole + whole / 4};
    for (uint64_t part = 0; part <= 8; ++part) {
      budgets.push_back(least + all_hot.neuron_bytes(0) * part / 8);
    }
    std::ranges::sort(budgets);
    int n_solved = 0;
    int n_moving = 0;
    for (const uint64_t vram : budgets) {
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
      // Where there is something to move.
      const auto split = [](const LayerPlacement& layer) {
        return layer.n_on[kVram] > 0 && layer.n_on[kDram] > 0;
      };
      const bool moves = std::ranges::any_of(solved.placement.layers, split);
      options.adapt = moves ? Adapt::kOn : Adapt::kOff;
      const Engine engine(options);
      const uint64_t used_bytes = free_bytes - QueryDeviceMemory().free_bytes;
      const MemoryPlan plan = engine.model().Plan();
      EXPECT_LE(plan.total_bytes(0), vram);
      EXPECT_EQ(plan.total_bytes(0), solved.plan.total_bytes(0));
      EXPECT_EQ(plan.total_bytes(1), solved.plan.total_bytes(1));
      if (!moves) continue;  // the room that was left is not taken
      ++n_moving;
      // A real card gives memory in larger pieces, and gives it to others, too.
      if (!QueryGpuSupport().emulated) continue;
      EXPECT_LE(used_bytes, plan.total_bytes(0) + kSmallBuffers);
      EXPECT_GE(used_bytes + kSmallBuffers, plan.total_bytes(0));
    }
    EXPECT_GT(n_solved, 5);
    EXPECT_GT(n_moving, 2);
    EXPECT_THROW(Place(model, stats, {std::min(least, whole) / 2, kPlenty}), Error);
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

// Against all splits of a model of two layers, by neurons and by where they attend.
TEST_F(GpuPlaceTest, AttentionGoesWhereThatTakesTheLeastTime) {
  constexpr uint64_t kPlenty = uint64_t{1} << 40;
  const OpenedModel model(Options({.model = Golden("gqa_relu")}));
  const ProfileStats stats = SomeActivity(model.config());
  MachineRates rates = FixedRates(/*gpu=*/true);
  rates.gpu->op_us = 0.5;  // else even a GPU that holds everything would gain by handing over
  const PassShape shape{
      .context_tokens = 60, .mode = SparseMode::kExact, .n_threads = model.n_threads()};
  const int64_t d_ff = model.config().d_ff;
  ASSERT_EQ(model.config().n_layers, 2);
  int n_away = 0;
  int n_mixed = 0;
  // A hand-over that costs little, and one that costs more than a layer.
  for (const double handover_us : {0.1, 50.0}) {
    rates.gpu->handover_us = handover_us;
    const TimePlacer placer(model, stats,
                            {.rates = &rates, .mode = shape.mode, .context_tokens = 60});
    Placement placement = OrderedPlacement(model, stats);
    std::vector<std::vector<int32_t>> orders;
    for (const LayerPlacement& layer : placement.layers) orders.push_back(layer.neuron_order);
    const CostModel costs(model, stats, orders, rates, shape);
    SetHot(&placement, {0, 0});
    SetAttention(&placement, {1, 1});
    const uint64_t least = model.PlanOf(&placement).total_bytes(0);
    SetHot(&placement, {d_ff, d_ff});
    SetAttention(&placement, {0, 0});
    const uint64_t whole = model.PlanOf(&placement).total_bytes(0);
    ASSERT_LT(least, whole);
    for (uint64_t part = 0; part <= 20; ++part) {
      const Budgets budgets{least + (whole - least) * part / 20, kPlenty};
      double best = std::numeric_limits<double>::infinity();
      std::vector<int64_t> n_hot(2);
      for (n_hot[0] = 0; n_hot[0] <= d_ff; n_hot[0] += kClusterNeurons) {
        for (n_hot[1] = 0; n_hot[1] <= d_ff; n_hot[1] += kClusterNeurons) {
          for (const auto& away : std::vector<std::vector<uint8_t>>{{0, 0}, {0, 1}, {1, 0}}) {
            SetHot(&placement, n_hot);
            SetAttention(&placement, away);
            if (model.PlanOf(&placement).total_bytes(0) > budgets.vram_bytes) continue;
            best = std::min(best, costs.Pass(n_hot, away).total_ms());
          }
        }
      }
      const RatedSplit found = placer.Optimal(budgets);
      if (best == std::numeric_limits<double>::infinity()) continue;
      ASSERT_TRUE(found.fits);
      EXPECT_LE(found.ms_per_token, best * 1.0001) << part;
      const auto away = std::ranges::count(found.away, 1);
      n_away += away > 0 ? 1 : 0;
      n_mixed += away == 1 ? 1 : 0;
      EXPECT_LE(placer.Place(budgets).plan.total_bytes(0), budgets.vram_bytes);
    }
  }
  EXPECT_GT(n_away, 0);
  EXPECT_GT(n_mixed, 0);
}

}  // namespace
}  // namespace thermocline
