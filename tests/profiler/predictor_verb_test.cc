// The verb `predictor`, called as the command line calls it, and what it writes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <filesystem>

#include "profiler/activations/activation_counter.h"
#include "profiler/placement/place.h"
#include "profiler/predictors/predictor_build.h"
#include "profiler/predictors/predictor_observers.h"
#include "runtime/convert/pack_model.h"
#include "runtime/core/interrupt.h"
#include "tests/profiler/predictor_recorder.h"
#include "tests/profiler/profiler_testing.h"
#include "tests/support/call_verb.h"
#include "tests/support/temp_dir.h"
#include "tools/reports/inspect_file.h"
#include "tools/verbs/verbs.h"

namespace thermocline {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class PredictorVerbTest : public testing::Test {
 protected:
  PredictorVerbTest() { WriteWholeFile(text_, WordText(1500)); }
  ~PredictorVerbTest() override { ClearInterrupt(); }

  static void AddVerbs(CLI::App& app) { AddPredictorVerb(app); }
  static std::string Call(const std::vector<std::string>& args) {
    return CallVerb(&AddVerbs, args);
  }
  std::vector<std::string> Args(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> args = {"predictor", "-m", ReluModelPath(), "-f",  text_, "-t",   "2",
                                     "-b",        "50", "--type",        "F16", "-o",  output_};
    args.insert(args.end(), more.begin(), more.end());
    return args;
  }
  static std::string CallError(const std::vector<std::string>& args) {
    return ErrorOf([&] { Call(args); });
  }
  static std::string UsageError(const std::vector<std::string>& args) {
    return VerbUsageError(&AddVerbs, args);
  }

  TempDir dir_;
  std::string text_ = dir_.file("text");
  std::string output_ = dir_.file("m.predictor.gguf");
};

TEST_F(PredictorVerbTest, WritesAFileThatFitsTheModel) {
  for (const std::string method : {"svd", "mlp", "sign"}) {
    const std::string out = Call(Args({"--method", method}));
    EXPECT_THAT(out, AllOf(HasSubstr("recall"), HasSubstr("predicted"), HasSubstr("true"),
                           HasSubstr("bytes/token"), HasSubstr("total"), HasSubstr(output_)));
    const PredictorFile file = ReadPredictor(output_);
    const GgufReader model(ReluModelPath());
    EXPECT_EQ(file.model_fingerprint, model.fingerprint());
    EXPECT_EQ(PredictorKindName(file.kind), method);
    EXPECT_EQ(file.layers.size(), 2U);
    EXPECT_EQ(file.rank, method == "sign" ? 0 : 32);
    for (const StoredLayerPredictor& layer : file.layers) {
      EXPECT_GT(layer.true_density, 0);
      for (size_t p = 1; p < layer.predictor.points.size(); ++p) {
        EXPECT_GE(layer.predictor.points[p].recall, layer.predictor.points[p - 1].recall);
        EXPECT_GE(layer.predictor.points[p].density, layer.predictor.points[p - 1].density);
      }
    }
    const auto inspection = InspectFile(GgufReader(output_));
    EXPECT_EQ(inspection["kind"], "predictor");
    EXPECT_EQ(inspection["predictor"]["method"], method);
    EXPECT_THAT(InspectionText(inspection), HasSubstr("recall at density"));
  }
  EXPECT_EQ(dir_.n_entries(), 2U);  // the output and the text
}

TEST_F(PredictorVerbTest, TheSameAgainAtAnyThreadCountAndBatch) {
  Call(Args());
  const std::string once = ReadWholeFile(output_);
  Call(Args());
  EXPECT_EQ(ReadWholeFile(output_), once);
  const PredictorFile first = ReadPredictor(output_);
  Call(Args({"-t", "1", "-b", "128"}));
  const PredictorFile other = ReadPredictor(output_);
  for (size_t l = 0; l < 2; ++l) {
    for (size_t p = 0; p < first.layers[l].predictor.points.size(); ++p) {
      EXPECT_NEAR(first.layers[l].predictor.points[p].density,
                  other.layers[l].predictor.points[p].density, 0.02);
    }
  }
}

TEST_F(PredictorVerbTest, LayerByLayerSeesWhatAWholePassSees) {
  EngineOptions options;
  options.model_path = ReluModelPath();
  options.sparse = "dense";
  options.n_threads = 2;
  Engine engine(options);
  std::vector<int32_t> ids = {1};
  for (const char c : WordText(18)) ids.push_back(3 + static_cast<unsigned char>(c));
  ids.resize(80);
  FfnRecorder whole;
  {
    const ScopedObserver watching(engine.executor(), &whole);
    engine.Feed(ids);
  }
  const int64_t d = engine.config().d_model;
  std::vector<float> x(ids.size() * static_cast<size_t>(d));
  engine.executor().Embed(ids, x.data());
  FfnRecorder by_layer;
  const ScopedObserver watching(engine.executor(), &by_layer);
  for (int64_t layer = 0; layer < engine.config().n_layers; ++layer) {
    engine.executor().RunLayers(x.data(), 80, 0, layer, layer + 1);
  }
  EXPECT_EQ(by_layer.x, whole.x);
  EXPECT_EQ(by_layer.h, whole.h);
}

// A predictor counts neurons by channel, whatever the order of the file it was built from.
TEST_F(PredictorVerbTest, APackedModelsPredictorIsItsSourcesPredictor) {
  Call(Args());
  const PredictorFile of_source = ReadPredictor(output_);
  EngineOptions options;
  options.model_path = ReluModelPath();
  const OpenedModel source(options);
  std::mt19937 random(5);
  ProfileStats stats = RandomStats(2, 96, random);
  stats.model_fingerprint = source.gguf().fingerprint();
  const SolvedPlacement placed = PlaceFraction(source, stats, 0.5, uint64_t{1} << 40);
  const std::string packed = dir_.file("packed.gguf");
  const std::string placement = dir_.file("p.gguf");
  WritePlacement(placement, placed.placement);
  PackOptions pack;
  pack.placement_path = placement;
  PackModel(ReluModelPath(), packed, pack);
  std::vector<std::string> args = Args();
  args[2] = packed;
  args.back() = dir_.file("packed.predictor.gguf");
  Call(args);
  const PredictorFile of_packed = ReadPredictor(args.back());
  EXPECT_EQ(of_packed.model_fingerprint, of_source.model_fingerprint);
  for (size_t l = 0; l < 2; ++l) {
    const LayerPredictor& a = of_packed.layers[l].predictor;
    const LayerPredictor& b = of_source.layers[l].predictor;
    std::vector<float> x(static_cast<size_t>(of_source.d_model));
    std::vector<float> scores_a(96);
    std::vector<float> scores_b(96);
    for (float& value : x) value = std::uniform_real_distribution<float>(-1, 1)(random);
    LowRankScorer(CpuKernels(), a).Score(x.data(), scores_a.data());
    LowRankScorer(CpuKernels(), b).Score(x.data(), scores_b.data());
    for (size_t i = 0; i < 96; ++i) {
      EXPECT_NEAR(scores_a[i], scores_b[i], 0.05 + 0.02 * std::abs(scores_b[i])) << l << " " << i;
    }
  }
}

TEST_F(PredictorVerbTest, ATextThatIsTooShort) {
  EXPECT_THAT(CallError(Args({"--max-tokens", "900"})),
              AllOf(HasSubstr("too short"), HasSubstr("tokens or more"), HasSubstr("found 900")));
  // What it says it takes is enough.
  const std::string message = CallError(Args({"--max-tokens", "900"}));
  const std::string needed = message.substr(message.find("expected ") + 9);
  EXPECT_EQ(CallError(Args({"--max-tokens", needed.substr(0, needed.find(' '))})), "");
}

TEST_F(PredictorVerbTest, WhatDoesNotFitIsAnError) {
  std::vector<std::string> args = Args();
  args[2] = SiluModelPath();
  EXPECT_THAT(CallError(args), AllOf(HasSubstr("true zeros"), HasSubstr("silu")));
  EXPECT_THAT(CallError(Args({"--rank", "33"})),
              AllOf(HasSubstr("multiple of 32"), HasSubstr("33")));
  EXPECT_THAT(CallError(Args({"--rank", "1024"})), HasSubstr("at most"));
  EXPECT_THAT(UsageError(Args({"--method", "magic"})), HasSubstr("magic"));
  EXPECT_THAT(UsageError(Args({"--type", "Q4_0"})), HasSubstr("Q4_0"));
  EXPECT_THAT(UsageError(Args({"--heldout-fraction", "2"})), HasSubstr("2"));
  args = Args();
  args[12] = text_;
  EXPECT_THAT(CallError(args), HasSubstr("this file is read"));
  EXPECT_EQ(dir_.n_entries(), 1U);
}

TEST_F(PredictorVerbTest, CtrlCLeavesNoFile) {
  RequestInterrupt();
  EXPECT_THROW(Call(Args()), Interrupted);
  EXPECT_EQ(dir_.n_entries(), 1U);
}

}  // namespace
}  // namespace thermocline
