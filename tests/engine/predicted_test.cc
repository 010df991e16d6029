// Mode predicted in whole models: every split between the tiers, any number of threads, what large
// batches do, and what is refused.
#include <gmock/gmock.h>

#include "tests/engine/predicted_fixture.h"
#include "tests/support/message_of.h"

namespace thermocline {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class PredictedRun : public Predicted {
 protected:
  static void SetUpTestSuite() { Build({"ahead", "sign"}); }
};

TEST_F(PredictedRun, ThreadsChangeNoBitAtAnySplit) {
  for (const char* name : {"ahead", "sign"}) {
    for (const double split : {-1.0, 0.3}) {
      EngineOptions options = Options();
      options.predictor = dir->file(name);
      options.n_threads = 1;
      const auto one = Logits(*Open(options, split));
      for (const int n_threads : {2, 3}) {
        options.n_threads = n_threads;
        EXPECT_EQ(Logits(*Open(options, split)), one) << name << " at " << split;
      }
    }
  }
}

// Hot neurons are computed without asking: the more of them, the less is predicted.
TEST_F(PredictedRun, OnlyColdNeuronsAreAskedAbout) {
  EngineOptions options = Options();
  options.predictor = dir->file("ahead");
  int64_t last_gates = 0;
  for (const double split : {0.0, 0.25, 0.5, 1.0}) {
    const auto engine = Open(options, split);
    const auto predicted = Logits(*engine);
    const FfnCount count = engine->executor().counts().Sum();
    EXPECT_GT(count.gates, last_gates) << split;
    last_gates = count.gates;
    engine->Reset();
    engine->executor().ResetCounts();
    engine->executor().set_mode(SparseMode::kExact);
    const auto exact = Logits(*engine);
    EXPECT_EQ(predicted == exact, split == 1.0) << split;
    EXPECT_EQ(count.gates == engine->executor().counts().Sum().gates, split == 1.0);
  }
}

TEST_F(PredictedRun, LargerBatchesRunDense) {
  EngineOptions options = Options();
  options.predictor = dir->file("ahead");
  Engine predicted(options);
  options.predictor.clear();
  options.sparse = "dense";
  options.always_per_neuron = true;
  Engine dense(options);
  const auto ids = Text(dense, 17);
  const auto expected = dense.Feed(ids);
  const auto found = predicted.Feed(ids);
  EXPECT_TRUE(std::equal(found.begin(), found.end(), expected.begin(), expected.end()));
  EXPECT_EQ(predicted.executor().counts().tokens, 0);
}

TEST_F(PredictedRun, ThePlanCountsThePredictor) {
  EngineOptions options = Options();
  options.predictor = dir->file("ahead");
  for (const double split : {-1.0, 0.5}) {
    const auto engine = Open(options, split);
    const MemoryPlan plan = engine->model().Plan();
    uint64_t touched = 0;
    for (const LayerPredictors& layer : engine->predictors()) {
      for (const SlicePredictor& slice : layer) touched += slice.touched_bytes;
    }
    EXPECT_EQ(plan.predictor_bytes(0) + plan.predictor_bytes(1), touched);
    EXPECT_EQ(plan.predictor_bytes(0) > 0, split < 0);
    EXPECT_EQ(plan.predictor_bytes(1) > 0, split >= 0);
  }
}

TEST_F(PredictedRun, WhatCannotBeIsRefused) {
  const auto message = [](EngineOptions options) {
    return MessageOf([&] { OpenedModel{options}; });
  };
  EngineOptions options = Options();
  options.sparse = "predicted";
  EXPECT_THAT(message(options), HasSubstr("the mode predicted needs a predictor"));
  options.predictor = dir->file("ahead");
  EXPECT_EQ(message(options), "");
  options.sparse = "exact";
  EXPECT_THAT(message(options), HasSubstr("expected predicted, found exact"));
  options.sparse = "auto";
  options.predictor = dir->file("missing");
  EXPECT_THAT(message(options), HasSubstr("missing"));
  options.predictor = options.model_path;
  EXPECT_THAT(message(options), HasSubstr("predictor"));
  options.predictor = dir->file("ahead");
  const std::string golden = std::string(THERMOCLINE_SOURCE_DIR) + "/tests/golden/";
  options.model_path = golden + "gqa_relu.gguf";
  EXPECT_THAT(message(options), HasSubstr("made for another model"));
  options.model_path = golden + "mha_silu_tied.gguf";
  EXPECT_THAT(message(options), HasSubstr("an activation with true zeros"));
}

}  // namespace
}  // namespace thermocline
