// Every family against Hugging Face transformers: tests/golden/families has a tiny seeded model of
// each as its directory, and what transformers computes with it. The directory is converted as a
// user would convert it, and run dense and sparse, in batches and token by token.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "runtime/convert/pack_model.h"
#include "runtime/engine/beam_search.h"
#include "runtime/engine/engine.h"
#include "runtime/import/import_model.h"
#include "tests/engine/family_models.h"
#include "tests/placement/placements.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

using Json = nlohmann::json;

// In f32 throughout, sums alone differ; logits span tens.
constexpr double kTolerance = 1e-3;
constexpr int64_t kBeams = 4;

double MaxGap(std::span<const float> found, const Json& expected) {
  EXPECT_EQ(found.size(), expected.size());
  double most = 0;
  for (size_t i = 0; i < std::min(found.size(), expected.size()); ++i) {
    const double gap = std::abs(static_cast<double>(found[i]) - expected[i].get<double>());
    most = std::isnan(gap) ? INFINITY : std::max(most, gap);
  }
  return most;
}

class FamilyGolden : public testing::TestWithParam<std::string> {
 protected:
  FamilyGolden() {
    const std::string folder = FamiliesFolder() + GetParam();
    std::ifstream file(folder + "/golden.json");
    golden_ = Json::parse(file);
    ImportOptions options;
    options.rule = ParseTypeRule("F32");
    ImportModel(folder, path_, options);
  }

  EngineOptions Options(const std::string& sparse, int64_t batch_tokens) const {
    EngineOptions options;
    options.model_path = path_;
    options.sparse = sparse;
    options.batch_tokens = batch_tokens;
    options.cache_type = DType::kF32;
    options.fast_tier = FastTier::kCpu;
    options.n_threads = 2;
    return options;
  }

  // Has the model's encoder, if there is one, read what the prompt has for it.
  static void Encode(Engine& engine, const Json& prompt) {
    if (!engine.config().has_encoder()) return;
    engine.Encode(engine.main_sequence(), prompt["encoder_ids"].get<std::vector<int32_t>>());
  }

  static void ExpectHidden(Engine& engine, const Json& prompt) {
    const auto dim = static_cast<size_t>(engine.config().streams_dim());
    size_t layer = 0;
    const auto expect = [&](const Json& expected) {
      for (const Json& of_layer : expected) {
        const auto found = engine.executor().hidden().subspan(layer * dim, dim);
        EXPECT_LE(MaxGap(found, of_layer), kTolerance) << "after layer " << layer;
        ++layer;
      }
    };
    if (engine.config().has_encoder()) expect(prompt["encoder_hidden_last_token_per_layer"]);
    expect(prompt["hidden_last_token_per_layer"]);
    EXPECT_EQ(static_cast<int64_t>(layer), engine.config().n_layers);
  }

  static void ExpectGreedy(Engine& engine, std::span<const float> logits, const Json& expected) {
    std::vector<int32_t> ids;
    while (ids.size() < expected.size()) {
      const auto best = std::ranges::max_element(logits) - logits.begin();
      ids.push_back(static_cast<int32_t>(best));
      if (ids.size() < expected.size()) logits = engine.Feed({&ids.back(), 1});
    }
    EXPECT_EQ(ids, expected.get<std::vector<int32_t>>());
  }

  // Contexts are as long as the prompt needs: LongRoPE turns by that.
  void ExpectPrompt(const Json& prompt, EngineOptions options) const {
    const auto ids = prompt["ids"].get<std::vector<int32_t>>();
    options.context_tokens = static_cast<int64_t>(ids.size() + prompt["greedy_ids"].size());
    Engine engine(options);
    Encode(engine, prompt);
    const auto early = prompt["early_position"].get<size_t>() + 1;
    const auto logits_early = engine.Feed(std::span(ids).first(early));
    EXPECT_LE(MaxGap(logits_early, prompt["logits_early"]), kTolerance);
    engine.Reset();
    engine.executor().set_keep_hidden(true);
    Encode(engine, prompt);
    const auto logits = engine.Feed(ids);
    EXPECT_LE(MaxGap(logits, prompt["logits_last"]), kTolerance);
    ExpectHidden(engine, prompt);
    engine.executor().set_keep_hidden(false);
    ExpectGreedy(engine, logits, prompt["greedy_ids"]);
  }

  TempDir dir_;
  std::string path_ = dir_.file("model.gguf");
  Json golden_;
};

TEST_P(FamilyGolden, LogitsHiddenStatesAndGreedyTokens) {
  for (const char* sparse : {"dense", "auto"}) {
    for (const int64_t batch : {512, 5, 1}) {
      SCOPED_TRACE(std::string(sparse) + ", batches of " + std::to_string(batch));
      for (const Json& prompt : golden_["prompts"]) ExpectPrompt(prompt, Options(sparse, batch));
    }
  }
}

TEST_P(FamilyGolden, Beams) {
  for (const Json& prompt : golden_["prompts"]) {
    const auto ids = prompt["ids"].get<std::vector<int32_t>>();
    const Json& expected = prompt["beams"];
    EngineOptions options = Options("dense", 64);
    options.n_sequences = kBeams + 1;
    options.context_tokens = static_cast<int64_t>(ids.size() + prompt["greedy_ids"].size());
    Engine engine(options);
    Encode(engine, prompt);
    BeamOptions beams;
    beams.n_beams = kBeams;
    beams.max_tokens = static_cast<int64_t>(expected[0]["ids"].size());
    beams.length_penalty = golden_["beam_search"]["length_penalty"].get<double>();
    const std::vector<Beam> found = SearchBeams(engine, ids, beams);
    ASSERT_EQ(found.size(), expected.size());
    for (size_t i = 0; i < found.size(); ++i) {
      EXPECT_EQ(found[i].ids, expected[i]["ids"].get<std::vector<int32_t>>()) << "beam " << i;
      EXPECT_NEAR(found[i].score, expected[i]["score"].get<double>(), kTolerance) << "beam " << i;
    }
    EXPECT_EQ(engine.n_past(), static_cast<int64_t>(ids.size()));
  }
}

// Neurons on two tiers of the CPU, in the file's form and packed; with and without skipping.
TEST_P(FamilyGolden, PlacedAndPackedNeuronsGiveTheSameLogits) {
  EngineOptions options = Options("dense", 64);
  options.always_per_neuron = true;  // as a placement has it
  const OpenedModel model(options);
  const ModelConfig& config = model.config();
  const std::string placement_path = dir_.file("placement.gguf");
  WritePlacement(placement_path, ShuffledPlacement(model.gguf().fingerprint(), config, 0.4));
  const auto run = [&](const std::string& path, const char* sparse) {
    options.model_path = path;
    options.placement_path = placement_path;
    options.sparse = sparse;
    for (const Json& prompt : golden_["prompts"]) {
      const auto ids = prompt["ids"].get<std::vector<int32_t>>();
      options.context_tokens = static_cast<int64_t>(ids.size() + prompt["greedy_ids"].size());
      Engine engine(options);
      Encode(engine, prompt);
      EXPECT_LE(MaxGap(engine.Feed(ids), prompt["logits_last"]), kTolerance) << sparse;
    }
  };
  PackOptions pack;
  pack.placement_path = placement_path;
  PackModel(path_, dir_.file("packed.gguf"), pack);
  for (const char* sparse : {"dense", "auto"}) {
    run(path_, sparse);
    run(dir_.file("packed.gguf"), sparse);
  }
}

// What a run holds is what its plan says, within 2 %: norms, biases, tables, windows, streams.
TEST_P(FamilyGolden, TakesTheMemoryThatWasPlanned) {
  EngineOptions options = Options("auto", 64);
  const OpenedModel model(options);
  const std::string placement_path = dir_.file("placement.gguf");
  WritePlacement(placement_path,
                 ShuffledPlacement(model.gguf().fingerprint(), model.config(), 0.4));
  for (const bool placed : {false, true}) {
    for (const bool copies : {false, true}) {
      if (placed && FamilyNamed(model.config().architecture).sub_norms) continue;
      options.placement_path = placed ? placement_path : "";
      options.copy_weights = copies;
      const Engine engine(options);
      const MemoryPlan plan = engine.model().Plan();
      const std::vector<uint64_t> used = engine.UsedBytes();
      for (size_t tier = 0; tier < used.size(); ++tier) {
        const auto planned = static_cast<double>(plan.total_bytes(tier));
        EXPECT_NEAR(static_cast<double>(used[tier]), planned, 0.02 * planned)
            << "tier " << tier << (placed ? ", placed" : "") << (copies ? ", copied" : "");
      }
    }
  }
}

// Neurons that change tiers take all of themselves along: biases, up rows, other activations.
TEST_P(FamilyGolden, NeuronsThatMoveGiveTheSameLogits) {
  EngineOptions options = Options("auto", 64);
  const OpenedModel model(options);
  if (!model.config().has_true_zeros() || model.config().cuts_gates() ||
      FamilyNamed(model.config().architecture).sub_norms) {
    return;  // nothing is skipped by the neuron, so nothing moves
  }
  options.placement_path = dir_.file("placement.gguf");
  WritePlacement(options.placement_path,
                 ShuffledPlacement(model.gguf().fingerprint(), model.config(), 0.4));
  options.adapt = Adapt::kOn;
  options.adapt_in_step = true;
  options.adapt_tokens_between = 1;
  const Json& prompt = golden_["prompts"][0];
  const auto ids = prompt["ids"].get<std::vector<int32_t>>();
  options.context_tokens = static_cast<int64_t>(ids.size() + prompt["greedy_ids"].size());
  Engine engine(options);
  for (int i = 0; i < 100 && engine.mover()->n_swaps() < 8; ++i) {
    Encode(engine, prompt);
    engine.Reset();
    engine.Feed(ids);
  }
  EXPECT_GT(engine.mover()->n_swaps(), 0);
  engine.Reset();
  EXPECT_LE(MaxGap(engine.Feed(ids), prompt["logits_last"]), kTolerance);
}

INSTANTIATE_TEST_SUITE_P(Transformers, FamilyGolden, testing::ValuesIn(FamilyNames()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace thermocline
