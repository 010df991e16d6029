// The GPU as the fast tier of small models, against the CPU: every split, mode and family, replayed
// graphs, hand-overs that fail. Logits are of size 1 to 10; sums in another order and an f16 cache
// move them in the third place, a slice that is lost, merged twice or out of place by 1 or more.
#include <gmock/gmock.h>

#include "runtime/device/gpu/make_gpu_device.h"
#include "runtime/device/handover.h"
#include "tests/gpu_tier/gpu_tier_fixture.h"
#include "tests/pass/failing_device.h"

namespace thermocline {
namespace {

constexpr double kTolerance = 1e-2;

TEST_F(GpuTier, EveryFamilyMatchesTheCpu) {
  for (const char* name :
       {"gqa_relu", "mha_silu_tied", "mqa_relu_sqr", "rope_yarn", "wide_heads"}) {
    GpuRun run{.model = Golden(name)};
    const auto on_gpu = Logits(run);
    run.tier = FastTier::kCpu;
    EXPECT_LE(MaxDifference(on_gpu, Logits(run)), kTolerance) << name;
  }
}

TEST_F(GpuTier, EverySplitAndModeMatchesTheCpu) {
  for (const char* sparse : {"dense", "exact"}) {
    const auto cpu =
        Logits({.model = Golden("gqa_relu"), .sparse = sparse, .tier = FastTier::kCpu});
    for (const double split : {-1.0, 0.0, 0.25, 0.5, 0.75, 1.0}) {
      if (ShortTests() && (split == 0.25 || split == 0.75)) continue;
      const GpuRun run{.model = Golden("gqa_relu"), .sparse = sparse, .hot_share = split};
      EXPECT_LE(MaxDifference(Logits(run), cpu), kTolerance) << sparse << " at " << split;
    }
  }
}

TEST_F(GpuTier, NeitherThreadsNorASecondRunChangeABit) {
  GpuRun run{.model = Golden("gqa_relu"), .hot_share = 0.4, .n_threads = 1, .attends_away = true};
  const auto one = Logits(run);
  for (const int n_threads : {1, 2, 3}) {
    run.n_threads = n_threads;
    EXPECT_EQ(Logits(run), one) << n_threads;
  }
}

TEST_F(GpuTier, AReplayedSequenceGivesTheSameBits) {
  const auto engine = Open({.model = Golden("gqa_relu"), .hot_share = 0.4, .attends_away = true});
  const auto first = Logits(*engine);
  engine->Reset();
  EXPECT_EQ(Logits(*engine), first);
  // A mode that is changed between passes is another graph.
  engine->Reset();
  engine->executor().set_mode(SparseMode::kDense);
  EXPECT_LE(MaxDifference(Logits(*engine), first), kTolerance);
}

TEST_F(GpuTier, AQ8CacheMatchesTheCpus) {
  GpuRun run{.model = Golden("wide_heads"), .cache_type = DType::kQ8_0};
  const auto on_gpu = Logits(run);
  run.tier = FastTier::kCpu;
  // The CPU rounds queries to 8 bit, too.
  EXPECT_LE(MaxDifference(on_gpu, Logits(run)), 0.2);
}

TEST_F(GpuTier, ActiveNeuronsAreCountedAsOnTheCpu) {
  std::vector<int64_t> expected;
  for (const auto& [tier, split] : {std::pair{FastTier::kCpu, -1.0},
                                    {FastTier::kGpu, -1.0},
                                    {FastTier::kGpu, 0.5},
                                    {FastTier::kGpu, 1.0}}) {
    const auto engine = Open({.model = Golden("gqa_relu"), .tier = tier, .hot_share = split});
    Logits(*engine);
    std::vector<int64_t> active;
    EXPECT_EQ(engine->executor().counts().tokens, 9);  // all but the batch of 19
    for (const FfnCount& layer : engine->executor().counts().layers) active.push_back(layer.active);
    if (expected.empty()) expected = active;
    for (size_t l = 0; l < active.size(); ++l) {
      EXPECT_NEAR(active[l], expected[l], 2) << split;  // gates next to 0
    }
  }
}

TEST_F(GpuTier, WhatIsAllocatedIsWhatWasPlanned) {
  for (const double split : {-1.0, 0.5}) {
    const auto engine = Open({.model = Golden("gqa_relu"), .hot_share = split});
    const MemoryPlan plan = engine->model().Plan();
    EXPECT_THAT(plan.tiers[0].name, testing::HasSubstr("vram ("));
    // Rows are padded to 16 bytes, and sums over a tiny model's buffers to more.
    const auto planned = static_cast<double>(plan.total_bytes(0) + plan.total_bytes(1));
    EXPECT_NEAR(static_cast<double>(engine->allocated_bytes()), planned, 0.1 * planned) << split;
  }
}

TEST_F(GpuTier, RefusesActivationsOfSixteenBits) {
  EngineOptions options;
  options.model_path = Golden("gqa_relu");
  options.fast_tier = FastTier::kGpu;
  options.activation_bits = 16;
  EXPECT_THAT([&] { Engine{options}; },
              testing::ThrowsMessage<Error>(testing::HasSubstr(
                  "the GPU multiplies quantised weights by activations of 8 bits")));
}

// The slow tier fails in the middle of a pass: one error, and the next pass works.
TEST_F(GpuTier, AFailingSlowTierLeavesNobodyWaiting) {
  const GgufReader gguf(Golden("gqa_relu"));
  const Family& family = FindFamily(gguf);
  const ModelConfig config = ReadModelConfig(gguf, family);
  const Placement placement =
      ShuffledPlacement(gguf.fingerprint(), config.n_layers, config.d_ff, 0.4);
  ThreadTeam team(2);
  const auto gpu = MakeGpuDevice("gpu", {&config, 8, 64, config.d_ff});
  FailingDevice slow("slow", MakeCpuDeviceLimits(config, 8, 64, 2));
  LoadOptions load;
  load.placement = &placement;
  Device* const tiers[] = {gpu.get(), &slow};
  const auto loaded = LoadWeights(gguf, family, config, load, tiers);
  const auto cache = gpu->MakeKvCache(config, DType::kF16, MakeKvLayout(config, KvPagesFor(64)), 0);
  Executor executor(config, loaded->weights,
                    ExecutorOptions{.max_tokens = 8, .max_logits = 1, .mode = SparseMode::kExact},
                    team, *cache, tiers);
  const std::vector<int32_t> ids = {5, 6, 7};
  const auto pass = [&] {
    const auto logits = executor.Run(executor.OnlySequence(ids, 0));
    return std::vector<float>(logits.begin(), logits.end());
  };
  const auto expected = pass();
  for (const int call : {1, 2}) {
    slow.FailAtCall(call);
    EXPECT_THAT(pass, testing::ThrowsMessage<Error>("slow failed"));
    EXPECT_EQ(pass(), expected);
  }
}

}  // namespace
}  // namespace thermocline
