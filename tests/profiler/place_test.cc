#include "profiler/placement/place.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "profiler/activations/coverage.h"
#include "runtime/convert/pack_model.h"
#include "tests/profiler/profiler_testing.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

using testing::HasSubstr;

OpenedModel OpenModel(const std::string& path, int64_t context_tokens, int64_t batch_tokens) {
  EngineOptions options;
  options.model_path = path;
  options.context_tokens = context_tokens;
  options.batch_tokens = batch_tokens;
  options.n_threads = 2;
  return OpenedModel(options);
}

ProfileStats StatsFor(const OpenedModel& model, uint32_t seed = 5) {
  std::mt19937 random(seed);
  return RandomStats(static_cast<size_t>(model.config().n_layers),
                     static_cast<size_t>(model.config().d_ff), random);
}

constexpr uint64_t kPlenty = uint64_t{1} << 40;

TEST(PlaceTest, EverythingFitsALargeBudget) {
  const OpenedModel model = OpenModel(ReluModelPath(), 0, 32);
  const SolvedPlacement solved = Place(model, StatsFor(model), {kPlenty, 0});
  for (const LayerPlacement& layer : solved.placement.layers) {
    EXPECT_EQ(layer.n_on[kVram], 96);
    EXPECT_EQ(layer.n_on[kDram], 0);
  }
  EXPECT_EQ(solved.plan.total_bytes(1), 0U);
  EXPECT_EQ(solved.placement.model_fingerprint, model.gguf().fingerprint());
}

TEST(PlaceTest, NeuronsAreOrderedByCountThenMassThenChannel) {
  const OpenedModel model = OpenModel(ReluModelPath(), 0, 32);
  ProfileStats stats = StatsFor(model);
  LayerActivity& layer = stats.calibration.layers[1];
  std::fill(layer.count.begin(), layer.count.end(), 3);
  std::fill(layer.mass.begin(), layer.mass.end(), 1.0);
  layer.count[50] = 4;
  layer.mass[70] = 2.0;
  const SolvedPlacement solved = Place(model, stats, {kPlenty, 0});
  const auto& order = solved.placement.layers[1].neuron_order;
  EXPECT_EQ(order[0], 50);
  EXPECT_EQ(order[1], 70);
  EXPECT_EQ(order[2], 0);
  EXPECT_EQ(order[95], 95);
  std::vector<int32_t> sorted = solved.placement.layers[0].neuron_order;
  std::sort(sorted.begin(), sorted.end());
  for (int32_t i = 0; i < 96; ++i) EXPECT_EQ(sorted[static_cast<size_t>(i)], i);
}

// The plan that `run` will make of the file keeps the budgets, whatever they are, and more VRAM
// never covers less of the calibration text.
TEST(PlaceTest, ThePlanOfARunKeepsTheBudgets) {
  std::mt19937 random(21);
  const TempDir dir;
  int n_solved = 0;
  for (int i = 0; i < 60; ++i) {
    const std::string path = i % 2 == 0 ? ReluModelPath() : SiluModelPath();
    const auto context = static_cast<int64_t>(2 + random() % 127);
    const auto batch = static_cast<int64_t>(1 + random() % 64);
    const OpenedModel model = OpenModel(path, context, batch);
    const ProfileStats stats = StatsFor(model, static_cast<uint32_t>(i));
    const uint64_t whole = Place(model, stats, {kPlenty, 0}).plan.total_bytes(0);
    const uint64_t least = PlaceFraction(model, stats, 0, kPlenty).plan.total_bytes(0);
    const uint64_t ram = random() % 2 == 0 ? kPlenty : random() % whole;
    double last_covered = -1;
    for (uint64_t part = 0; part <= 10; ++part) {
      const Budgets budgets{least + (whole - least) * part / 10, ram};
      SolvedPlacement solved;
      if (!ErrorOf([&] { solved = Place(model, stats, budgets); }).empty()) {
        EXPECT_LT(last_covered, 0);
        continue;
      }
      ++n_solved;
      EngineOptions options = model.options();
      options.placement_path = dir.file("a.placement.gguf");
      WritePlacement(options.placement_path, solved.placement);
      const MemoryPlan plan = OpenedModel(options).Plan();
      EXPECT_LE(plan.total_bytes(0), budgets.vram_bytes);
      EXPECT_LE(plan.total_bytes(1), budgets.ram_bytes);
      const double covered =
          MakeCoverageReport(stats, &solved.placement, nullptr).total.heldin.value();
      EXPECT_GE(covered, last_covered);
      last_covered = covered;
    }
  }
  EXPECT_GT(n_solved, 300);
}

TEST(PlaceTest, BudgetsTooSmallSayWhatItTakes) {
  const OpenedModel model = OpenModel(ReluModelPath(), 0, 32);
  const ProfileStats stats = StatsFor(model);
  const std::string vram = ErrorOf([&] { Place(model, stats, {1000, kPlenty}); });
  EXPECT_THAT(vram, HasSubstr("gqa_relu.gguf"));
  EXPECT_THAT(vram, HasSubstr("the VRAM budget is too small"));
  EXPECT_THAT(vram, HasSubstr("found 1000 B"));
  EXPECT_THAT(vram, HasSubstr("context (128 tokens now)"));
  EXPECT_THAT(vram, HasSubstr("batch (32 now)"));

  const uint64_t least_vram = PlaceFraction(model, stats, 0, kPlenty).plan.total_bytes(0);
  EXPECT_EQ(ErrorOf([&] { Place(model, stats, {least_vram, kPlenty}); }), "");
  EXPECT_THAT(ErrorOf([&] {
                Place(model, stats, {least_vram - 1, kPlenty});
              }),
              HasSubstr("the VRAM budget"));
  const std::string ram = ErrorOf([&] { Place(model, stats, {least_vram, 1000}); });
  EXPECT_THAT(ram, HasSubstr("the RAM budget is too small"));
  EXPECT_THAT(ram, HasSubstr("raise it or the VRAM budget"));

  // The plan is known before anything was counted.
  const ProfileStats nothing = NoActivity(model.config());
  EXPECT_THAT(ErrorOf([&] {
                Place(model, nothing, {least_vram - 1, kPlenty});
              }),
              HasSubstr("the VRAM budget"));
  EXPECT_EQ(ErrorOf([&] { Place(model, nothing, {least_vram, kPlenty}); }), "");
}

TEST(PlaceTest, FractionsAreRoundedToClusters) {
  const OpenedModel model = OpenModel(ReluModelPath(), 0, 32);
  const ProfileStats stats = StatsFor(model);
  const auto n_hot = [&](double fraction) {
    return PlaceFraction(model, stats, fraction, kPlenty).placement.layers[1].n_on[kVram];
  };
  EXPECT_EQ(n_hot(0), 0);
  EXPECT_EQ(n_hot(0.1), 0);
  EXPECT_EQ(n_hot(0.34), 32);
  EXPECT_EQ(n_hot(0.6), 64);
  EXPECT_EQ(n_hot(1), 96);
  EXPECT_THAT(ErrorOf([&] { PlaceFraction(model, stats, 0.34, 1000); }),
              HasSubstr("a RAM budget of "));

  const OpenedModel odd = OpenModel(SiluModelPath(), 0, 32);  // d_ff 48
  const ProfileStats odd_stats = StatsFor(odd);
  EXPECT_EQ(PlaceFraction(odd, odd_stats, 0.99, kPlenty).placement.layers[0].n_on[kVram], 48);
  EXPECT_EQ(PlaceFraction(odd, odd_stats, 0.5, kPlenty).placement.layers[0].n_on[kVram], 32);
}

// A packed model keeps its order, and what is counted on it goes by the channels of its source.
TEST(PlaceTest, PackedModelsKeepTheirOrder) {
  const TempDir dir;
  const OpenedModel source = OpenModel(ReluModelPath(), 0, 32);
  const ProfileStats stats = StatsFor(source);
  const SolvedPlacement first = PlaceFraction(source, stats, 0.34, kPlenty);
  const std::string placement_path = dir.file("first.placement.gguf");
  const std::string packed_path = dir.file("packed.gguf");
  WritePlacement(placement_path, first.placement);
  PackOptions pack;
  pack.placement_path = placement_path;
  PackModel(ReluModelPath(), packed_path, pack);

  const OpenedModel packed = OpenModel(packed_path, 0, 32);
  EXPECT_EQ(PlacementFingerprint(packed.gguf()), source.gguf().fingerprint());
  const ProfileStats other = StatsFor(source, 77);  // would order them in another way
  const SolvedPlacement again = PlaceFraction(packed, other, 0.67, kPlenty);
  EXPECT_EQ(again.placement.layers[1].neuron_order, first.placement.layers[1].neuron_order);
  EXPECT_EQ(again.placement.layers[1].n_on[kVram], 64);
  EXPECT_EQ(again.placement.model_fingerprint, source.gguf().fingerprint());
  // The runtime takes the placement, too.
  EngineOptions options = packed.options();
  options.placement_path = dir.file("again.placement.gguf");
  WritePlacement(options.placement_path, again.placement);
  EXPECT_EQ(ErrorOf([&] { Engine engine(options); }), "");
}

}  // namespace
}  // namespace thermocline
