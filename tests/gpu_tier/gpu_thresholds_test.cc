// Thresholds on the GPU and beside it: the channels that the CPU reads, and its logits.
#include "profiler/thresholds/calibrate_thresholds.h"
#include "runtime/engine/scoped_batch_cuts.h"
#include "runtime/engine/touched_bytes.h"
#include "tests/gpu_tier/gpu_tier_fixture.h"
#include "tests/profiler/profiler_testing.h"
#include "tests/profiler/threshold_models.h"

namespace thermocline {
namespace {

// Small sums in another order may put a channel on the other side of a threshold: it is worth as
// little as the threshold.
constexpr double kTolerance = 2e-2;

class GpuThresholds : public GpuTier {
 protected:
  std::string Thresholds(const std::string& model) {
    std::string path = dir_.file("a.profile.gguf");
    EngineOptions options = CalibrationOptions(model);
    options.context_tokens = 100;
    Engine engine(options);
    WriteThresholdFile(path, MeasureThresholds(engine, {}),
                       PlacementFingerprint(engine.model().gguf()));
    return path;
  }
  EngineOptions CutOptions(const GpuRun& run, const std::string& thresholds, bool by_column) {
    EngineOptions options = Options(run);
    options.thresholds_path = thresholds;
    options.by_column = by_column;
    return options;
  }
  // Options() opens the model to learn its shape, which takes a mode without thresholds.
  EngineOptions CutOptions(const std::string& sparse, const std::string& model, FastTier tier,
                           double split, const std::string& thresholds, bool by_column) {
    EngineOptions options =
        CutOptions({.model = model, .tier = tier, .hot_share = split}, thresholds, by_column);
    options.sparse = sparse;
    return options;
  }
  static std::vector<int64_t> KeptOf(Engine& engine) {
    std::vector<int64_t> kept;
    for (const auto& layer : engine.executor().counts().channels.kept) {
      kept.insert(kept.end(), layer.begin(), layer.end());
    }
    return kept;
  }
};

TEST_F(GpuThresholds, EverySplitAndMethodMatchesTheCpu) {
  for (const std::string& model : {SiluModelPath(), ReluModelPath()}) {
    const std::string thresholds = Thresholds(model);
    for (const char* sparse : {"teal:0.5", "wina:0.4", "cats:0.7", "neurons:0.7"}) {
      for (const bool by_column : {false, true}) {
        if (by_column && (sparse[0] == 'c' || sparse[0] == 'n')) continue;
        // A ReLU model differs from others in its zeros, which one method shows.
        if (model == ReluModelPath() && (sparse[0] != 't' || !by_column)) continue;
        Engine cpu(CutOptions(sparse, model, FastTier::kCpu, -1, thresholds, by_column));
        const auto expected = Logits(cpu);
        const auto kept = KeptOf(cpu);
        for (const double split : {-1.0, 0.0, 0.67, 1.0}) {
          if ((split == 0.0 || split == 1.0) && (sparse[0] != 't' || !by_column)) continue;
          Engine gpu(CutOptions(sparse, model, FastTier::kGpu, split, thresholds, by_column));
          EXPECT_LE(MaxDifference(Logits(gpu), expected), kTolerance)
              << model << " " << sparse << " at " << split << (by_column ? " by column" : "");
          const FfnCounts& counts = gpu.executor().counts();
          EXPECT_EQ(counts.channels.rows, cpu.executor().counts().channels.rows);
          const auto found = KeptOf(gpu);
          ASSERT_EQ(found.size(), kept.size());
          for (size_t i = 0; i < kept.size(); ++i) {
            EXPECT_NEAR(static_cast<double>(found[i]), static_cast<double>(kept[i]), 3)
                << sparse << " at " << split << ", counter " << i;
          }
          const double skipped = gpu.cuts()->ShareSkipped(counts.channels);
          EXPECT_NEAR(skipped, cpu.cuts()->ShareSkipped(cpu.executor().counts().channels), 0.01);
          EXPECT_GT(skipped, 0.2);
        }
      }
    }
  }
}

TEST_F(GpuThresholds, NothingSkippedIsDenseToTheBit) {
  const std::string thresholds = Thresholds(SiluModelPath());
  for (const char* sparse : {"teal:0", "cats:0"}) {
    for (const bool by_column : {false, true}) {
      if (by_column && sparse[0] == 'c') continue;
      for (const double split : {-1.0, 0.67}) {
        if (split > 0 && !by_column) continue;
        Engine engine(
            CutOptions(sparse, SiluModelPath(), FastTier::kGpu, split, thresholds, by_column));
        engine.executor().set_mode(SparseMode::kDense);
        const auto dense = Logits(engine);
        engine.Reset();
        engine.executor().set_mode(SparseMode::kThreshold);
        EXPECT_EQ(Logits(engine), dense) << sparse << " at " << split << " " << by_column;
      }
    }
  }
}

// Attention alone is cut beside an exact FFN.
TEST_F(GpuThresholds, BesideExactFfns) {
  const std::string model = ReluModelPath();
  const std::string thresholds = Thresholds(model);
  Engine cpu(CutOptions("exact+teal:0.5", model, FastTier::kCpu, -1, thresholds, true));
  const auto expected = Logits(cpu);
  for (const double split : {-1.0, 0.5}) {
    Engine gpu(CutOptions("exact+teal:0.5", model, FastTier::kGpu, split, thresholds, true));
    EXPECT_LE(MaxDifference(Logits(gpu), expected), kTolerance) << split;
    EXPECT_FALSE(gpu.weights().layers[0].slices[0].by_column);
    EXPECT_TRUE(gpu.weights().layers[0].wq.by_column);
    EXPECT_EQ(gpu.cuts()->ShareRead(gpu.executor().counts().channels, 0, CutMatrix::kUp), 1);
  }
}

// Who measures what a mode costs has batches cut, too: few tokens that are captured, and many.
TEST_F(GpuThresholds, CutBatchesMatchTheCpus) {
  const std::string model = SiluModelPath();
  const std::string thresholds = Thresholds(model);
  for (const char* sparse : {"teal:0.5", "cats:0.7"}) {
    for (const bool by_column : {false, true}) {
      if (by_column == (sparse[0] == 'c')) continue;
      Engine cpu(CutOptions(sparse, model, FastTier::kCpu, -1, thresholds, by_column));
      Engine gpu(CutOptions(sparse, model, FastTier::kGpu, 0.67, thresholds, by_column));
      const ScopedBatchCuts cpu_cuts(cpu.cuts()->cuts());
      const ScopedBatchCuts gpu_cuts(gpu.cuts()->cuts());
      // Batches are multiplied in f16 on the GPU.
      EXPECT_LE(MaxDifference(Logits(gpu), Logits(cpu)), 5e-2) << sparse << by_column;
      EXPECT_NEAR(gpu.cuts()->ShareSkipped(gpu.executor().counts().channels),
                  cpu.cuts()->ShareSkipped(cpu.executor().counts().channels), 0.02);
    }
  }
}

// A choice that is changed between passes is not answered by what was kept of another.
TEST_F(GpuThresholds, AnotherChoiceIsAnotherGraph) {
  const std::string thresholds = Thresholds(SiluModelPath());
  Engine engine(CutOptions("teal:0.6", SiluModelPath(), FastTier::kGpu, -1, thresholds, true));
  const auto first = Logits(engine);
  engine.Reset();
  const ThresholdChoice half{.method = ThresholdMethod::kTeal, .sparsity = 0.2};
  engine.cuts()->Choose(half, ThresholdSplit::kUniform);
  const auto second = Logits(engine);
  EXPECT_GT(MaxDifference(first, second), 1e-3);
  engine.Reset();
  const ThresholdChoice before{.method = ThresholdMethod::kTeal, .sparsity = 0.6};
  engine.cuts()->Choose(before, ThresholdSplit::kUniform);
  EXPECT_EQ(Logits(engine), first);
}

TEST_F(GpuThresholds, WhatIsAllocatedIsWhatWasPlanned) {
  const std::string thresholds = Thresholds(SiluModelPath());
  for (const double split : {-1.0, 0.67}) {
    const Engine engine(
        CutOptions("wina:0.5", SiluModelPath(), FastTier::kGpu, split, thresholds, true));
    const MemoryPlan plan = engine.model().Plan();
    const auto planned = static_cast<double>(plan.total_bytes(0) + plan.total_bytes(1));
    EXPECT_NEAR(static_cast<double>(engine.allocated_bytes()), planned, 0.1 * planned) << split;
  }
}

}  // namespace
}  // namespace thermocline
