// Predictors that look ahead: a layer's neurons from the FFN input of the layer before.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>

#include "profiler/activations/activation_counter.h"
#include "profiler/predictors/predictor_build.h"
#include "profiler/predictors/predictor_observers.h"
#include "tests/profiler/predictor_recorder.h"
#include "tests/profiler/profiler_testing.h"
#include "tests/support/call_verb.h"
#include "tests/support/temp_dir.h"
#include "tools/reports/inspect_file.h"
#include "tools/verbs/verbs.h"

namespace thermocline {
namespace {

using testing::HasSubstr;

TEST(LookAheadObserverTest, ShowsEachTokenItsInputOfTheLayerBefore) {
  constexpr int64_t kTokens = 5;
  constexpr int64_t kModel = 3;
  constexpr int64_t kFf = 2;
  FfnSlice slice;
  slice.gate.cols = kModel;
  slice.n_neurons = kFf;
  const std::vector<float> h(kTokens * kFf, 1.0F);
  // Layer l's input of token t is 100 l + t everywhere; two chunks, of 3 and 2 tokens.
  std::vector<float> previous(kTokens * kModel, -1.0F);
  for (int64_t layer = 0; layer < 3; ++layer) {
    std::vector<float> x;
    for (int64_t t = 0; t < kTokens; ++t) {
      x.insert(x.end(), kModel, static_cast<float>(100 * layer + t));
    }
    FfnRecorder seen;
    CrossMoments moments(kModel);
    LookAheadObserver ahead(previous, &seen, layer > 0 ? &moments : nullptr);
    for (const auto& [first, n] : {std::pair<int64_t, int64_t>{0, 3}, {3, 2}}) {
      FfnObservation observation;
      observation.layer = layer;
      observation.n_tokens = n;
      observation.slice = &slice;
      observation.x = x.data() + first * kModel;
      observation.h = h.data() + first * kFf;
      ahead.OnFfn(Lane{}, observation);
    }
    ASSERT_EQ(seen.x.size(), x.size());
    for (size_t i = 0; i < x.size(); ++i) {
      EXPECT_EQ(seen.x[i], layer == 0 ? x[i] : x[i] - 100) << layer << " " << i;
    }
    EXPECT_EQ(previous, x);
    if (layer == 0) continue;
    EXPECT_EQ(moments.n_tokens(), kTokens);
    for (const double covariance : moments.Covariance()) EXPECT_NEAR(covariance, 2, 1e-3);
  }
}

class LookAheadTest : public testing::Test {
 protected:
  LookAheadTest() { WriteWholeFile(text_, WordText(2500)); }
  static void AddVerbs(CLI::App& app) { AddPredictorVerb(app); }
  std::vector<std::string> Args(const std::string& method) const {
    return {"predictor", "-m",  ReluModelPath(), "-f",   text_,          "-t", "2",
            "--type",    "F16", "--method",      method, "--look-ahead", "-o", output_};
  }

  TempDir dir_;
  std::string text_ = dir_.file("text");
  std::string output_ = dir_.file("m.predictor.gguf");
};

// What the file says holds for the input that a running model has, which is that of the layer
// before.
TEST_F(LookAheadTest, WhatIsMeasuredHoldsForTheLayerBefore) {
  constexpr int64_t kTokens = 120;
  EngineOptions options;
  options.model_path = ReluModelPath();
  options.sparse = "dense";
  options.n_threads = 2;
  Engine engine(options);
  std::vector<int32_t> ids = {1};
  const std::vector<int32_t> words = engine.tokenizer().Encode(WordText(60, 7));
  ids.insert(ids.end(), words.begin(), words.begin() + kTokens - 1);
  FfnRecorder seen;
  {
    const ScopedObserver watching(engine.executor(), &seen);
    engine.Feed(ids);
  }
  for (const std::string method : {"svd", "mlp"}) {
    CallVerb(&AddVerbs, Args(method));
    const PredictorFile file = ReadPredictor(output_);
    ASSERT_TRUE(file.look_ahead);
    EXPECT_EQ(file.layers[0].predictor.input, PredictorInput::kNormed);
    EXPECT_EQ(file.layers[1].predictor.input, PredictorInput::kPreviousNormed);
    const LayerPredictor& second = file.layers[1].predictor;
    const size_t p = ChoosePoint(second, 0.9);
    const float* h = seen.h.data() + kTokens * file.d_ff;
    const PredictedCounts before = CountPredicted(second, p, seen.x.data(), h, kTokens);
    EXPECT_NEAR(before.recall(), second.points[p].recall, 0.05) << method;
    EXPECT_NEAR(before.density(), second.points[p].density, 0.05) << method;
    // With the layer's own input it would do something else.
    const PredictedCounts own =
        CountPredicted(second, p, seen.x.data() + kTokens * file.d_model, h, kTokens);
    EXPECT_GT(before.recall() - before.density(), own.recall() - own.density() + 0.05) << method;
  }
}

TEST_F(LookAheadTest, IsSaidWhereverThePredictorIsShown) {
  EXPECT_THAT(CallVerb(&AddVerbs, Args("svd")),
              HasSubstr("from the FFN input of the layer before"));
  const auto inspection = InspectFile(GgufReader(output_));
  EXPECT_EQ(inspection["predictor"]["look_ahead"], true);
  EXPECT_THAT(InspectionText(inspection), HasSubstr("from the layer before"));
}

TEST_F(LookAheadTest, SignCannot) {
  EXPECT_THAT(VerbUsageError(&AddVerbs, Args("sign")), HasSubstr("--look-ahead"));
  EngineOptions options;
  options.model_path = ReluModelPath();
  PredictorOptions predictor;
  predictor.kind = PredictorKind::kSign;
  predictor.look_ahead = true;
  EXPECT_THAT(ErrorOf([&] { CheckPredictorOptions(OpenedModel(options), predictor); }),
              HasSubstr("expected svd or mlp"));
}

}  // namespace
}  // namespace thermocline
