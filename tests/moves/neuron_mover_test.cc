// Neurons that change tiers between the passes of small models: no result changes but by rounding,
// and what is kept of it is the placement that it came to.
#include "runtime/moves/neuron_mover.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "runtime/convert/pack_model.h"
#include "runtime/core/error.h"
#include "tests/moves/moved_model.h"
#include "tests/support/greedy_text.h"
#include "tests/support/message_of.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

using testing::HasSubstr;

std::string DemoModel() {
  return std::string(THERMOCLINE_SOURCE_DIR) + "/tools/demo.d/classics-9m-relu-q8_0.gguf";
}

class NeuronMoverTest : public testing::Test {
 protected:
  EngineOptions Options(const std::string& model) const {
    return MovingOptions(model, dir_.file("p.gguf"));
  }
  static EngineOptions WithoutMoves(EngineOptions options) {
    options.adapt = Adapt::kOff;
    options.placement_path.clear();
    options.sparse = "dense";
    return options;
  }
  // The hot sets of a placement's layers.
  static std::vector<std::set<int32_t>> HotSets(const Placement& placement) {
    std::vector<std::set<int32_t>> sets;
    for (const LayerPlacement& layer : placement.layers) {
      const auto first = layer.neuron_order.begin();
      sets.emplace_back(first, first + layer.n_on[kVram]);
    }
    return sets;
  }

  TempDir dir_;
};

TEST_F(NeuronMoverTest, ChangesResultsByRoundingOnly) {
  for (const char* name : {"gqa_relu", "mqa_relu_sqr"}) {
    SCOPED_TRACE(name);
    const EngineOptions options = Options(GoldenModel(name));
    Engine moving(options);
    Engine dense(WithoutMoves(options));
    FeedTokens(moving, 30, 16);
    ExpectWholeNeurons(moving);
    EXPECT_GT(moving.mover()->n_swaps(), 0);
    const std::vector<int32_t> prompt = {1, 20, 30, 40, 50};
    CompareGreedy(dense, moving, prompt, 60, 5e-3);
  }
}

// Over a text of the embedded model, while neurons move: the same tokens as the dense run's.
TEST_F(NeuronMoverTest, WritesTheTextOfTheDenseRun) {
  const EngineOptions options = Options(DemoModel());
  Engine moving(options);
  Engine dense(WithoutMoves(options));
  const std::vector<int32_t> prompt = dense.tokenizer().EncodePrompt("It was a dark night, and");
  const GreedyComparison text = CompareGreedy(dense, moving, prompt, 200, 0.2);
  EXPECT_GT(moving.mover()->n_swaps(), 100);
  EXPECT_LE(text.near_ties, 2);
  ExpectWholeNeurons(moving);
}

TEST_F(NeuronMoverTest, TheSameMovesFromRunToRunInStep) {
  const EngineOptions options = Options(GoldenModel("gqa_relu"));
  Engine first(options);
  Engine second(options);
  FeedTokens(first, 30, 16);
  FeedTokens(second, 30, 16);
  EXPECT_EQ(first.mover()->n_swaps(), second.mover()->n_swaps());
  EXPECT_EQ(HotSets(first.LearnedPlacement()), HotSets(second.LearnedPlacement()));
}

// While passes run: for ThreadSanitizer, and for whoever moves before it was staged.
TEST_F(NeuronMoverTest, MovesBesideThePasses) {
  EngineOptions options = Options(GoldenModel("gqa_relu"));
  options.adapt_in_step = false;
  Engine moving(options);
  for (int round = 0; round < 200 && moving.mover()->n_swaps() == 0; ++round) {
    FeedTokens(moving, 100);
  }
  EXPECT_GT(moving.mover()->n_swaps(), 0);
  ExpectWholeNeurons(moving);
  Engine dense(WithoutMoves(options));
  CompareGreedy(dense, moving, std::vector<int32_t>{1, 20, 30}, 40, 5e-3);
}

TEST_F(NeuronMoverTest, WhatItLearnedIsAPlacement) {
  const EngineOptions options = Options(GoldenModel("gqa_relu"));
  Engine moving(options);
  FeedTokens(moving, 30, 16);
  const Placement learned = moving.LearnedPlacement();
  const Placement before = ReadPlacement(options.placement_path);
  EXPECT_NE(HotSets(learned), HotSets(before));
  // A tier's neurons are in the order of what was learned of them.
  EngineOptions again = options;
  again.placement_path = dir_.file("learned.gguf");
  again.adapt = Adapt::kOff;
  WritePlacement(again.placement_path, learned);
  const Placement read = ReadPlacement(again.placement_path);
  EXPECT_EQ(HotSets(read), HotSets(learned));
  EXPECT_EQ(read.model_fingerprint, before.model_fingerprint);
  Engine reloaded(again);
  for (size_t l = 0; l < learned.layers.size(); ++l) {
    EXPECT_EQ(read.layers[l].neuron_order, learned.layers[l].neuron_order);
    EXPECT_EQ(read.layers[l].n_on, before.layers[l].n_on);
    const FfnSlice& fast = reloaded.weights().layers[l].slices[0];
    const FfnSlice& moved = moving.weights().layers[l].slices[0];
    EXPECT_EQ(std::set<int32_t>(fast.neuron_ids, fast.neuron_ids + fast.n_neurons),
              std::set<int32_t>(moved.neuron_ids, moved.neuron_ids + moved.n_neurons));
  }
  moving.Reset();
  CompareGreedy(reloaded, moving, std::vector<int32_t>{1, 20, 30}, 40, 5e-3);
}

// A packed model is read where the file has it, but not where neurons move.
TEST_F(NeuronMoverTest, MovesThoseOfAPackedModel) {
  const EngineOptions stock = Options(GoldenModel("gqa_relu"));
  PackOptions pack;
  pack.placement_path = stock.placement_path;
  PackModel(stock.model_path, dir_.file("packed.gguf"), pack);
  EngineOptions options = stock;
  options.model_path = dir_.file("packed.gguf");
  Engine moving(options);
  FeedTokens(moving, 30, 16);
  EXPECT_GT(moving.mover()->n_swaps(), 0);
  ExpectWholeNeurons(moving);
  Engine dense(WithoutMoves(stock));
  CompareGreedy(dense, moving, std::vector<int32_t>{1, 20, 30}, 40, 5e-3);
}

TEST_F(NeuronMoverTest, TakesTheMemoryThatWasPlanned) {
  for (const char* name : {"gqa_relu", "mqa_relu_sqr"}) {
    const Engine engine(Options(GoldenModel(name)));
    const MemoryPlan plan = engine.model().Plan();
    const std::vector<uint64_t> used = engine.UsedBytes();
    for (size_t tier = 0; tier < used.size(); ++tier) {
      EXPECT_EQ(used[tier], plan.total_bytes(tier)) << name << ", tier " << tier;
    }
  }
}

// Signs of the gates are packed anew where a gate has come, rows of a file's predictor are read
// from it: a run that loads the same places computes the same bits. A predicted token depends on
// which neurons are asked about, so nothing moves while the two are compared.
TEST_F(NeuronMoverTest, ThePredictorMovesWithItsNeurons) {
  const std::string own =
      std::string(THERMOCLINE_SOURCE_DIR) + "/tests/powerinfer/reglu_f16.powerinfer.gguf";
  const std::pair<std::string, std::string> cases[] = {
      {GoldenModel("gqa_relu"), std::string(kSignPredictor)}, {own, ""}};
  for (const auto& [model, predictor] : cases) {
    SCOPED_TRACE(model);
    EngineOptions options = Options(model);
    options.sparse = "predicted";
    options.predictor = predictor;
    Engine moving(options);
    FeedTokens(moving, 300, 2);
    EXPECT_GT(moving.mover()->n_swaps(), 0);
    ExpectWholeNeurons(moving);
    EngineOptions again = options;
    again.adapt = Adapt::kOff;
    again.placement_path = dir_.file("learned.gguf");
    WritePlacement(again.placement_path, PlacementAsItLies(moving));
    moving.executor().set_between_passes({});
    Engine reloaded(again);
    EXPECT_EQ(CompareGreedy(reloaded, moving, std::vector<int32_t>{1, 20, 30}, 40, 0).noise, 0);
  }
}

// With an observer and in dense passes nothing is counted.
TEST_F(NeuronMoverTest, CountsOnlyWhereNeuronsAreSkipped) {
  Engine engine(Options(GoldenModel("gqa_relu")));
  engine.executor().set_mode(SparseMode::kDense);
  FeedTokens(engine, 50);
  EXPECT_EQ(engine.mover()->n_tokens(), 0);
  engine.executor().set_mode(SparseMode::kExact);
  FeedTokens(engine, 50);
  engine.Reset();
  engine.Feed(std::vector<int32_t>(20, 7));  // a batch, of which h are counted
  FeedTokens(engine, 1);
  EXPECT_EQ(engine.mover()->n_tokens(), 70);
}

TEST_F(NeuronMoverTest, SaysWhyNothingMoves) {
  EngineOptions options = Options(GoldenModel("gqa_relu"));
  const auto message = [&] { return MessageOf([&] { OpenedModel{options}; }); };
  EXPECT_EQ(message(), "");
  options.sparse = "dense";
  EXPECT_THAT(message(), HasSubstr("every neuron is computed for every token"));
  options.sparse = "exact";
  options.placement_path.clear();
  EXPECT_THAT(message(), HasSubstr("all neurons lie on one tier"));
  options = Options(GoldenModel("gqa_relu"));
  options.adapt = Adapt::kAuto;
  const OpenedModel automatic(options);
  EXPECT_FALSE(automatic.adapt().moves);
  EXPECT_THAT(automatic.adapt().why_not, HasSubstr("both tiers are memory of the host"));
}

}  // namespace
}  // namespace thermocline
