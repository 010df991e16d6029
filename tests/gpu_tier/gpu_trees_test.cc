// Trees of drafted tokens with a GPU as the fast tier: kept passes and batches, windows, both types
// of cache, layers that attend on the slow tier; and the tokens of a text that is written with
// them.
#include <memory>

#include "runtime/drafts/model_draft.h"
#include "runtime/engine/generate.h"
#include "runtime/import/import_model.h"
#include "tests/engine/family_models.h"
#include "tests/engine/fed_trees.h"
#include "tests/engine/twin_engines.h"
#include "tests/gpu_tier/gpu_tier_fixture.h"

namespace thermocline {
namespace {

// Rounding of a key or value to f16, tipped by another order of sums (tests/golden/README.md).
constexpr double kOtherOrder = 5e-3;
constexpr int64_t kTreeRows = 24;

class GpuTrees : public GpuTier {
 protected:
  EngineOptions TreeOptions(const GpuRun& run) {
    EngineOptions options = Options(run);
    options.context_tokens = 128;
    options.batch_tokens = 64;
    options.n_sequences = 2;
    options.drafted_rows = kTreeRows;
    return options;
  }
  static void ExpectTrees(Engine& engine, size_t n_text) {
    if (engine.config().has_encoder()) engine.Encode(engine.main_sequence(), TwinText(1, 9));
    engine.Feed(TwinText(3, n_text));
    FedTrees fed(engine, kOtherOrder);
    fed.ExpectPaths(RandomTree(1, 8), 8, 7);
    // As many branches of another shape, in a pass that was kept; and in parts.
    fed.ExpectPaths(RandomTree(3, 8), 8, 5);
    fed.ExpectPaths(RandomTree(2, 7), 4, 6);
    fed.ExpectPaths(RandomTree(4, kTreeRows), kTreeRows, kTreeRows - 1);
  }
};

TEST_F(GpuTrees, EveryTokenSaysWhatItsPathSays) {
  {
    Engine engine(TreeOptions({.model = Golden("wide_heads"), .cache_type = DType::kQ8_0}));
    ExpectTrees(engine, 27);
  }
  Engine engine(TreeOptions({.model = Golden("gqa_relu"), .hot_share = 0.5, .attends_away = true}));
  ExpectTrees(engine, 40);
}

// Windows, learned positions, relative ones and an encoder.
TEST_F(GpuTrees, OfFamiliesToo) {
  for (const char* family : {"gemma3", "gpt2", "t5"}) {
    SCOPED_TRACE(family);
    const std::string path = dir_.file("model.gguf");
    ImportOptions import;
    import.rule = ParseTypeRule("F32");
    ImportModel(FamiliesFolder() + family, path, import);
    EngineOptions options = TreeOptions({.model = path});
    options.context_tokens = 64;
    Engine engine(options);
    ExpectTrees(engine, 14);
  }
}

TEST_F(GpuTrees, ATextIsTheSameWithThem) {
  const auto open = [&](const std::string& model, double hot_share) {
    EngineOptions options = TreeOptions({.model = Golden(model), .hot_share = hot_share});
    return std::make_unique<Engine>(options);
  };
  const auto engine = open("gqa_relu", 0.5);
  ModelDraft draft(open("rope_partial", -1));
  Speculator speculator(draft, {.max_tokens = 7, .max_children = 3, .follows_times = false},
                        engine->config().vocab_size);
  const auto write = [&](Speculator* with) {
    Generator generator(*engine, {.temperature = 0});
    if (with != nullptr) generator.set_speculator(with, false);
    generator.Continue(TwinText(4, 20), 24, [](std::string_view) {});
    return generator.Ids();
  };
  EXPECT_EQ(write(&speculator), write(nullptr));
  EXPECT_GT(speculator.stats().n_drafts, 3);
}

}  // namespace
}  // namespace thermocline
