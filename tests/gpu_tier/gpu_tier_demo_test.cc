// The embedded model with a GPU as the fast tier: greedy tokens at every split are those of the
// CPU's dense run; what profiling counts and what predictors name is the same.
#include "predictor/predictor.h"
#include "profiler/predictor_build.h"
#include "profiler/profile_run.h"
#include "runtime/evaluate.h"
#include "runtime/quantize_model.h"
#include "tests/gpu_tier/gpu_tier_fixture.h"
#include "tools/cli_options.h"

namespace thermocline {
namespace {

class GpuTierDemo : public GpuTier {
 protected:
  GpuRun Demo() const { return {.model = DemoFile("classics-9m-relu-q8_0.gguf")}; }
  static std::vector<int32_t> Greedy(Engine& engine, int n_tokens) {
    auto logits = engine.Feed(engine.tokenizer().Encode("The old man and"));
    engine.executor().ResetCounts();
    std::vector<int32_t> ids;
    for (int i = 0; i < n_tokens; ++i) {
      ids.push_back(FindBest(logits).id);
      logits = engine.Feed({&ids.back(), 1});
    }
    return ids;
  }
};

TEST_F(GpuTierDemo, GreedyTokensAtEverySplitAreThoseOfTheDenseRun) {
  constexpr int kTokens = 8;
  GpuRun run = Demo();
  run.sparse = "dense";
  run.tier = FastTier::kCpu;
  const auto dense = Greedy(*Open(run), kTokens);
  run.sparse = "exact";
  run.tier = FastTier::kGpu;
  for (const double split : {0.0, 0.25, 0.5, 0.75, 1.0}) {
    run.hot_share = split;
    EXPECT_EQ(Greedy(*Open(run), kTokens), dense) << split;
  }
}

// A prompt of several batches, the last of them short.
TEST_F(GpuTierDemo, GreedyTokensBehindStreamedBatchesAreThoseOfTheDenseRun) {
  constexpr size_t kPrompt = 2 * 32 + 23;
  const auto greedy = [](const GpuRun& run, const EngineOptions& options) {
    Engine engine(options);
    auto prompt = engine.tokenizer().Encode(ReadTextFile(DemoFile("heldout.txt")).substr(0, 2000));
    prompt.resize(kPrompt);
    std::vector<int32_t> ids = {FindBest(engine.Feed(prompt)).id};
    while (ids.size() < 8) ids.push_back(FindBest(engine.Feed({&ids.back(), 1})).id);
    EXPECT_EQ(engine.executor().stream_use().streamed_batches,
              run.stream == StreamCold::kOn ? 3 : 0);
    return ids;
  };
  const auto options_of = [&](const GpuRun& run) {
    EngineOptions options = Options(run);
    options.context_tokens = 128;
    return options;
  };
  GpuRun run = Demo();
  run.sparse = "dense";
  run.tier = FastTier::kCpu;
  const auto dense = greedy(run, options_of(run));
  run.tier = FastTier::kGpu;
  run.stream = StreamCold::kOn;
  run.piece_bytes = 200'000;
  for (const auto& [sparse, split] :
       {std::pair{"exact", 0.0}, {"dense", 0.25}, {"exact", 0.25}, {"exact", 0.5}}) {
    run.sparse = sparse;
    run.hot_share = split;
    EXPECT_EQ(greedy(run, options_of(run)), dense) << sparse << " at " << split;
  }
}

TEST_F(GpuTierDemo, PredictedNeuronsAreThoseOfTheCpu) {
  GpuRun run = Demo();
  {
    EngineOptions options =
        Options({.model = run.model, .sparse = "dense", .tier = FastTier::kCpu});
    options.context_tokens = 0;
    Engine engine(options);
    PredictorOptions predictor;
    predictor.text_path = DemoFile("calibration.txt");
    predictor.max_tokens = 6000;
    WritePredictor(
        dir_.file("svd"),
        BuildPredictor(engine, ReadPredictorTexts(engine.model(), engine.tokenizer(), predictor),
                       predictor));
  }
  run.predictor = dir_.file("svd");
  for (const double split : {-1.0, 0.3}) {
    run.hot_share = split;
    std::vector<int32_t> tokens[2];
    FfnCount counts[2];
    for (const FastTier tier : {FastTier::kCpu, FastTier::kGpu}) {
      const size_t i = tier == FastTier::kGpu ? 1 : 0;
      run.tier = tier;
      const auto engine = Open(run);
      tokens[i] = Greedy(*engine, 6);
      counts[i] = engine->executor().counts().Sum();
    }
    EXPECT_EQ(tokens[0], tokens[1]) << split;
    // The CPU computes a part of a layer whole where most of it is named.
    EXPECT_NEAR(static_cast<double>(counts[0].gates), static_cast<double>(counts[1].gates),
                0.05 * static_cast<double>(counts[0].gates));
  }
}

// Sign bits need no file and are the same on both; a prompt in one step, then tokens one by one.
TEST_F(GpuTierDemo, SignsPredictWhatTheyPredictOnTheCpu) {
  GpuRun run = Demo();
  run.predictor = "sign";
  std::vector<int32_t> tokens[2];
  FfnCount counts[2];
  for (const FastTier tier : {FastTier::kCpu, FastTier::kGpu}) {
    const size_t i = tier == FastTier::kGpu ? 1 : 0;
    run.tier = tier;
    const auto engine = Open(run);
    engine->executor().set_audit(true);
    auto logits = engine->Feed(engine->tokenizer().Encode("It was a dark night, and the rain"));
    for (int t = 0; t < 4; ++t) {
      tokens[i].push_back(FindBest(logits).id);
      logits = engine->Feed({&tokens[i].back(), 1});
    }
    counts[i] = engine->executor().counts().Sum();
  }
  EXPECT_EQ(tokens[0], tokens[1]);
  // The CPU computes a part of a layer whole where most of it is named.
  const auto near = [&](int64_t FfnCount::*member, double share) {
    const auto expected = static_cast<double>(counts[0].*member);
    EXPECT_GT(expected, 0);
    EXPECT_NEAR(static_cast<double>(counts[1].*member), expected, share * expected);
  };
  near(&FfnCount::gates, 0.05);
  near(&FfnCount::hits, 0.02);
  EXPECT_NEAR(counts[1].Recall(), counts[0].Recall(), 0.02);
  EXPECT_LT(counts[1].Recall(), 1);
  EXPECT_EQ(counts[1].hits, counts[1].active);
}

// All matrices, the embedding table and the head in Q6_K; of the embedded model, whose d_model is
// one block. What is kept is what the file holds, to a row's last 16 bytes.
TEST_F(GpuTierDemo, Q6KMatchesTheCpuAndGrowsByNothing) {
  QuantizeOptions quantize;
  quantize.rule = {DType::kQ6_K, false};
  quantize.n_threads = 2;
  const std::string model = dir_.file("q6_k.gguf");
  QuantizeModel(DemoFile("classics-9m-relu-q8_0.gguf"), model, quantize);
  EXPECT_EQ(GgufReader(model).FindTensor("token_embd.weight")->dtype, DType::kQ6_K);
  const auto cpu = Logits({.model = model, .sparse = "dense", .tier = FastTier::kCpu});
  // A batch is in f32 on the CPU and in f16 here, and eight layers of activations of 8 bits follow:
  // the same model in Q8_0 is off by 0.07.
  constexpr double kEightLayers = 0.1;
  for (const auto& [sparse, split] : {std::pair{"exact", -1.0}, {"dense", -1.0}, {"exact", 0.5}}) {
    const auto engine = Open({.model = model, .sparse = sparse, .hot_share = split});
    EXPECT_LE(MaxDifference(Logits(*engine), cpu), kEightLayers) << sparse << " at " << split;
    const MemoryPlan plan = engine->model().Plan();
    const auto planned = static_cast<double>(plan.fast_total_bytes() + plan.slow_total_bytes());
    EXPECT_NEAR(static_cast<double>(engine->allocated_bytes()), planned, 0.02 * planned) << split;
  }
}

}  // namespace
}  // namespace thermocline
