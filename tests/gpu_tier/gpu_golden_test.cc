// Every family that has a golden, on the GPU: what it computes is what the CPU computes with keys
// and values of the same type, whose f32 forms family_golden_test has against transformers.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "runtime/import/import_model.h"
#include "tests/engine/family_models.h"
#include "tests/gpu_tier/gpu_tier_fixture.h"

namespace thermocline {
namespace {

using Json = nlohmann::json;
using Ids = std::vector<int32_t>;

// Sums in another order move logits of tens by 1e-5, and by more where a key or a value falls to
// the other side of an edge between two f16.
constexpr double kTolerance = 5e-3;

class GpuGolden : public GpuTier, public testing::WithParamInterface<std::string> {
 protected:
  GpuGolden() {
    const std::string folder = FamiliesFolder() + GetParam();
    std::ifstream file(folder + "/golden.json");
    golden_ = Json::parse(file);
    ImportOptions options;
    options.rule = ParseTypeRule("F32");
    ImportModel(folder, path_, options);
  }

  EngineOptions OptionsOf(FastTier tier, const std::string& sparse) {
    EngineOptions options = Options({.model = path_, .sparse = sparse, .tier = tier});
    options.batch_tokens = 512;
    return options;
  }

  // The logits after the prompt, in one batch and, of its beginning, in passes that are kept; then
  // after some of the tokens that follow it; and the residual streams after the layers.
  std::vector<std::vector<float>> Run(EngineOptions options, const Json& prompt) {
    const auto ids = prompt["ids"].get<Ids>();
    const auto greedy = prompt["greedy_ids"].get<Ids>();
    options.context_tokens = static_cast<int64_t>(ids.size() + greedy.size());
    Engine engine(options);
    std::vector<std::vector<float>> all;
    const auto keep = [&](std::span<const float> values) {
      all.emplace_back(values.begin(), values.end());
    };
    const auto encode = [&] {
      if (!engine.config().has_encoder()) return;
      engine.Encode(engine.main_sequence(), prompt["encoder_ids"].get<Ids>());
    };
    encode();
    engine.executor().set_keep_hidden(true);
    keep(engine.Feed(ids));
    keep(engine.executor().hidden());
    engine.executor().set_keep_hidden(false);
    engine.Reset();
    encode();
    const auto some = std::min<size_t>(ids.size(), 7);
    keep(engine.Feed(std::span(ids).first(some)));
    for (size_t i = 0; i < 3; ++i) keep(engine.Feed({&greedy[i], 1}));
    return all;
  }

  void ExpectSame(const std::string& sparse) {
    for (const Json& prompt : golden_["prompts"]) {
      const auto expected = Run(OptionsOf(FastTier::kCpu, sparse), prompt);
      const auto found = Run(OptionsOf(FastTier::kGpu, sparse), prompt);
      ASSERT_EQ(found.size(), expected.size());
      for (size_t i = 0; i < found.size(); ++i) {
        EXPECT_LE(MaxDifference(found[i], expected[i]), kTolerance) << sparse << ", " << i;
      }
    }
  }

  std::string path_ = dir_.file("model.gguf");
  Json golden_;
};

TEST_P(GpuGolden, ComputesWhatTheCpuComputes) { ExpectSame("auto"); }

TEST_P(GpuGolden, WhatIsAllocatedIsWhatIsPlanned) {
  const Engine engine(OptionsOf(FastTier::kGpu, "auto"));
  const MemoryPlan plan = engine.model().Plan();
  const auto planned = static_cast<double>(plan.total_bytes(0) + plan.total_bytes(1));
  EXPECT_NEAR(static_cast<double>(engine.allocated_bytes()), planned, 0.02 * planned);
}

// Neurons on both tiers, and layers that attend on the host: their keys and values lie there.
TEST_P(GpuGolden, PlacedItComputesWhatTheCpuComputes) {
  EngineOptions placed = OptionsOf(FastTier::kGpu, "auto");
  const OpenedModel model(placed);
  const Placement placement =
      ShuffledPlacement(model.gguf().fingerprint(), model.config(), /*hot_share=*/0.4);
  placed.placement_path = dir_.file("placement.gguf");
  WritePlacement(placed.placement_path, placement);
  const Json& prompt = golden_["prompts"][0];
  const auto expected = Run(OptionsOf(FastTier::kCpu, "auto"), prompt);
  const auto found = Run(placed, prompt);
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_LE(MaxDifference(found[i], expected[i]), kTolerance) << i;
  }
  const Engine engine(placed);
  const std::vector<uint64_t> used = engine.UsedBytes();
  const MemoryPlan plan = engine.model().Plan();
  for (size_t tier = 0; tier < used.size(); ++tier) {
    const auto planned = static_cast<double>(plan.total_bytes(tier));
    EXPECT_NEAR(static_cast<double>(used[tier]), planned, 0.02 * planned) << tier;
  }
}

INSTANTIATE_TEST_SUITE_P(Transformers, GpuGolden, testing::ValuesIn(FamilyNames()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace thermocline
