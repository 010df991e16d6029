#include "profiler/placement/place_by_time.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <regex>
#include <string>

#include "tests/profiler/profiler_testing.h"
#include "tests/rates/fixed_rates.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

using testing::HasSubstr;

constexpr uint64_t kNoLimit = uint64_t{1} << 40;

// The small ReLU model, with statistics that are made up, and rates that are.
class PlaceByTimeTest : public testing::Test {
 protected:
  static OpenedModel Open(int n_threads) {
    EngineOptions options;
    options.model_path = ReluModelPath();
    options.batch_tokens = 32;
    options.n_threads = n_threads;
    options.fast_tier = FastTier::kCpu;
    return OpenedModel(options);
  }
  static ProfileStats Stats(const OpenedModel& model) {
    std::mt19937 random(5);
    return RandomStats(static_cast<size_t>(model.config().n_layers),
                       static_cast<size_t>(model.config().d_ff), random);
  }
  TimeGoal Goal(SparseMode mode = SparseMode::kExact, int64_t rows = 1) const {
    return {.rates = &rates_, .mode = mode, .rows = rows, .context_tokens = 64};
  }
  PassTime TimeOf(const PassShape& shape, int64_t n_hot) const {
    const CostModel costs(model_, stats_, {}, rates_, shape);
    return costs.Pass(std::vector<int64_t>(static_cast<size_t>(model_.config().n_layers), n_hot));
  }
  // The budgets between nothing but the fixed part and everything on the fast tier.
  std::vector<Budgets> Steps(const OpenedModel& model) const {
    const uint64_t whole = PlaceFraction(model, stats_, 1, kNoLimit).plan.total_bytes(0);
    const uint64_t least = PlaceFraction(model, stats_, 0, kNoLimit).plan.total_bytes(0);
    std::vector<Budgets> budgets;
    for (uint64_t part = 0; part <= 12; ++part) {
      budgets.push_back({least + (whole - least) * part / 12, kNoLimit});
    }
    return budgets;
  }

  OpenedModel model_ = Open(2);
  ProfileStats stats_ = Stats(model_);
  MachineRates rates_ = FixedRates();
};

TEST_F(PlaceByTimeTest, ALargeBudgetTakesEverythingAndHandsNothingOver) {
  const TimePlacer placer(model_, stats_, Goal());
  const SolvedPlacement solved = placer.Place({kNoLimit, 0});
  for (const LayerPlacement& layer : solved.placement.layers) EXPECT_EQ(layer.n_on[kDram], 0);
  EXPECT_EQ(solved.plan.total_bytes(1), 0U);
  for (const LayerTime& layer : placer.Optimal({kNoLimit, 0}).time.layers) {
    EXPECT_EQ(layer.handover_ms, 0);
    EXPECT_EQ(layer.slow_ms, 0);
  }
}

TEST_F(PlaceByTimeTest, NothingElseThatFitsIsFaster) {
  for (const int n_threads : {1, 2, 5}) {
    const OpenedModel model = Open(n_threads);
    const TimePlacer placer(model, stats_, Goal());
    for (const Budgets& budgets : Steps(model)) {
      const std::vector<RatedSplit> splits = placer.Explain(budgets);
      ASSERT_EQ(splits.size(), 4U);
      ASSERT_TRUE(splits[0].fits);
      EXPECT_LE(splits[0].least_ms_per_token, splits[0].ms_per_token);
      for (const RatedSplit& split : splits) {
        if (!split.fits) continue;
        EXPECT_LE(splits[0].ms_per_token, split.ms_per_token * 1.0001)
            << split.strategy << ", " << n_threads << " threads";
        EXPECT_EQ(split.fast_bytes + split.slow_bytes, splits[0].fast_bytes + splits[0].slow_bytes);
      }
    }
  }
}

TEST_F(PlaceByTimeTest, ThePlanKeepsTheBudgetsAndTheSameComesOutAgain) {
  const TimePlacer placer(model_, stats_, Goal());
  for (const Budgets& budgets : Steps(model_)) {
    const SolvedPlacement solved = placer.Place(budgets);
    EXPECT_LE(solved.plan.total_bytes(0), budgets.vram_bytes);
    EXPECT_LE(solved.plan.total_bytes(1), budgets.ram_bytes);
    const SolvedPlacement again = TimePlacer(model_, stats_, Goal()).Place(budgets);
    for (size_t l = 0; l < solved.placement.layers.size(); ++l) {
      EXPECT_EQ(solved.placement.layers[l].n_on, again.placement.layers[l].n_on);
      EXPECT_EQ(solved.placement.layers[l].neuron_order, again.placement.layers[l].neuron_order);
    }
  }
}

TEST_F(PlaceByTimeTest, BudgetsTooSmallSayTheLeastThatDoes) {
  const TimePlacer placer(model_, stats_, Goal());
  // Less than what attention takes beside all else has layers attend on the slow tier.
  const uint64_t attends = PlaceFraction(model_, stats_, 0, kNoLimit).plan.total_bytes(0);
  EXPECT_EQ(ErrorOf([&] { placer.Place({attends, kNoLimit}); }), "");
  EXPECT_GT(std::ranges::count(placer.Optimal({attends - 1, kNoLimit}).away, 1), 0);
  // Returns what the error of these budgets says would do.
  const auto least = [&](const Budgets& budgets, const char* what) {
    const std::string error = ErrorOf([&] { placer.Place(budgets); });
    EXPECT_THAT(error, HasSubstr(what));
    std::smatch number;
    EXPECT_TRUE(std::regex_search(error, number, std::regex("([0-9]+)K or more"))) << error;
    return std::stoull(number[1]) << 10;
  };
  const uint64_t vram = least({attends / 8, kNoLimit}, "the VRAM budget is too small");
  EXPECT_LT(vram, attends);
  const SolvedPlacement solved = placer.Place({vram, kNoLimit});
  EXPECT_LE(solved.plan.total_bytes(0), vram);
  for (const uint64_t fast : {vram, attends}) {
    const uint64_t ram = least({fast, 1000}, "the RAM budget is too small");
    EXPECT_LE(placer.Place({fast, ram}).plan.total_bytes(1), ram);
    EXPECT_FALSE(placer.Optimal({fast, ram - ram / 8}).fits);
  }
}

TEST_F(PlaceByTimeTest, WhereLayersAttendIsKeptInTheFile) {
  const TempDir dir;
  const std::string path = dir.file("a.placement.gguf");
  Placement placement = Place(model_, stats_, {kNoLimit, kNoLimit}).placement;
  ASSERT_EQ(placement.layers.size(), 2U);
  WritePlacement(path, placement);
  const auto size = std::filesystem::file_size(path);
  placement.layers[1].attention = kDram;
  WritePlacement(path, placement);
  EXPECT_GT(std::filesystem::file_size(path), size);  // no tensor where all is as usual
  EXPECT_EQ(ReadPlacement(path).layers[0].attention, kVram);
  EXPECT_EQ(ReadPlacement(path).layers[1].attention, kDram);
  // Tiers that there are not, or that do not run attention.
  EngineOptions options = model_.options();
  options.placement_path = path;
  placement.layers[1].attention = kNvme;
  WritePlacement(path, placement);
  EXPECT_THAT(ErrorOf([&] { OpenedModel{options}; }), HasSubstr("layer 1 attends on nvme"));
  placement.layers[1].attention = static_cast<PlacementTier>(7);
  WritePlacement(path, placement);
  EXPECT_THAT(ErrorOf([&] { ReadPlacement(path); }), HasSubstr("tensor attention_tiers, layer 1"));
}

TEST_F(PlaceByTimeTest, ThePredictionIsKeptInTheFile) {
  const TempDir dir;
  const TimePlacer placer(model_, stats_, Goal());
  const Budgets budgets = Steps(model_)[6];
  const SolvedPlacement solved = placer.Place(budgets);
  ASSERT_TRUE(solved.placement.prediction.has_value());
  EXPECT_EQ(solved.placement.prediction->ms_per_token, placer.Optimal(budgets).ms_per_token);
  WritePlacement(dir.file("a.placement.gguf"), solved.placement);
  const Placement read = ReadPlacement(dir.file("a.placement.gguf"));
  ASSERT_TRUE(read.prediction.has_value());
  EXPECT_EQ(read.prediction->ms_per_token, solved.placement.prediction->ms_per_token);
  EXPECT_EQ(read.prediction->mode, "exact");
  EXPECT_EQ(read.prediction->n_threads, 2);
  EXPECT_EQ(read.prediction->context_tokens, 64);
  EXPECT_EQ(read.prediction->slow_bytes_per_s, 20e9);
  EXPECT_EQ(read.prediction->machine, rates_.machine.Text());
  // Without one the file is read as well.
  WritePlacement(dir.file("b.placement.gguf"), Place(model_, stats_, budgets).placement);
  EXPECT_FALSE(ReadPlacement(dir.file("b.placement.gguf")).prediction.has_value());
}

TEST_F(PlaceByTimeTest, TimesFollowWhatIsRead) {
  const int64_t d_ff = model_.config().d_ff;
  for (LayerActivity& layer : stats_.calibration.layers) {
    std::ranges::fill(layer.count, stats_.calibration.n_tokens / 20);
  }
  PassShape dense{.context_tokens = 64, .n_threads = 2, .placed = false};
  PassShape exact = dense;
  exact.mode = SparseMode::kExact;
  EXPECT_LT(TimeOf(exact, d_ff).total_ms(), TimeOf(dense, d_ff).total_ms());

  // Rows share what they read: two take more than one and less than two passes of one.
  PassShape two = exact;
  two.rows = 2;
  EXPECT_GT(TimeOf(two, d_ff).total_ms(), TimeOf(exact, d_ff).total_ms());
  EXPECT_LT(TimeOf(two, d_ff).total_ms(), 2 * TimeOf(exact, d_ff).total_ms());

  PassShape longer = exact;
  longer.context_tokens = 640;
  EXPECT_GT(TimeOf(longer, d_ff).layers[0].attention_ms,
            TimeOf(exact, d_ff).layers[0].attention_ms);
  EXPECT_EQ(TimeOf(longer, d_ff).layers[0].ffn_ms, TimeOf(exact, d_ff).layers[0].ffn_ms);

  PassShape one_thread = exact;
  one_thread.n_threads = 1;
  EXPECT_GT(TimeOf(one_thread, d_ff).total_ms(), TimeOf(exact, d_ff).total_ms());
}

// What a slice reads goes by the counts of its own neurons.
TEST_F(PlaceByTimeTest, HotNeuronsTakeLongerThanColdOnes) {
  for (LayerActivity& layer : stats_.calibration.layers) {
    for (size_t i = 0; i < layer.count.size(); ++i) {
      layer.count[i] = i < layer.count.size() / 2 ? stats_.calibration.n_tokens : 0;
    }
  }
  PassShape shape{.mode = SparseMode::kExact, .n_threads = 2};
  const LayerTime exact = TimeOf(shape, model_.config().d_ff / 2).layers[0];
  EXPECT_GT(exact.fast_ms, exact.slow_ms);
  EXPECT_GT(exact.handover_ms, 0);
  EXPECT_GE(exact.ffn_ms, exact.fast_ms + exact.handover_ms);
  shape.mode = SparseMode::kDense;
  const LayerTime dense = TimeOf(shape, model_.config().d_ff / 2).layers[0];
  EXPECT_NEAR(dense.fast_ms, dense.slow_ms, 1e-9);
}

// Both tiers are the host's and read one memory: two that work at once take what one would, and
// the hand-over.
TEST_F(PlaceByTimeTest, TwoTiersOfOneMemoryAreNotFasterThanOne) {
  const int64_t d_ff = model_.config().d_ff;
  for (TypeRates& type : rates_.host.types) {
    for (size_t i = kRateRowCounts; i < type.ffn_weights_per_s.size(); ++i) {
      type.ffn_weights_per_s[i] = type.ffn_weights_per_s[i % kRateRowCounts];
    }
  }
  const PassShape shape{.n_threads = 2};
  const LayerTime split = TimeOf(shape, d_ff / 3).layers[0];
  EXPECT_NEAR(split.ffn_ms - split.handover_ms, split.fast_ms + split.slow_ms, 0.003);
  const PassShape one{.n_threads = 1};
  const LayerTime in_turn = TimeOf(one, d_ff / 3).layers[0];
  EXPECT_NEAR(in_turn.ffn_ms - in_turn.handover_ms, in_turn.fast_ms + in_turn.slow_ms, 0.003);
}

TEST_F(PlaceByTimeTest, TypesOfTheModelAndItsCacheAreAskedFor) {
  const std::vector<RateKey> types = RateTypesOf(model_);
  EXPECT_TRUE(std::is_sorted(types.begin(), types.end()));
  EXPECT_THAT(types, testing::Contains(testing::Field(&RateKey::dtype, DType::kF16)));  // the cache
}

}  // namespace
}  // namespace thermocline
