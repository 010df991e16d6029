// A build of a predictor that was stopped goes on with the layers that are missing.
#include "profiler/predictors/predictor_resume.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <filesystem>

#include "runtime/core/interrupt.h"
#include "tests/profiler/profiler_testing.h"
#include "tests/support/call_verb.h"
#include "tests/support/temp_dir.h"
#include "tools/reports/inspect_file.h"
#include "tools/verbs/verbs.h"

namespace thermocline {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class PredictorResumeTest : public testing::TestWithParam<std::vector<std::string>> {
 protected:
  PredictorResumeTest() { WriteWholeFile(text_, WordText(1500)); }
  ~PredictorResumeTest() override { ClearInterrupt(); }

  static void AddVerbs(CLI::App& app) { AddPredictorVerb(app); }
  std::string Call(const std::string& output, const std::vector<std::string>& more) const {
    std::vector<std::string> args = {"predictor", "-m", ReluModelPath(), "-f",  text_, "-t",  "2",
                                     "-b",        "50", "--type",        "F16", "-o",  output};
    args.insert(args.end(), more.begin(), more.end());
    return CallVerb(&AddVerbs, args);
  }

  // Builds as the verb does, and stops (as by Ctrl-C) when the first layer is finished.
  void BuildFirstLayer(const PredictorOptions& options) {
    EngineOptions engine_options;
    engine_options.model_path = ReluModelPath();
    engine_options.sparse = "dense";
    engine_options.n_threads = 2;
    engine_options.batch_tokens = 50;
    Engine engine(engine_options);
    PredictorOptions build = options;
    build.text_path = text_;
    build.dtype = DType::kF16;
    const PredictorTexts texts = ReadPredictorTexts(engine.model(), engine.tokenizer(), build);
    build.on_layer = [&](const PredictorFile& file, std::span<const ChosenPoint> /*chosen*/) {
      ASSERT_EQ(file.layers.size(), 1U);
      WritePredictor(UnfinishedPath(output_), file);
      RequestInterrupt();
    };
    EXPECT_THROW(BuildPredictor(engine, texts, build), Interrupted);
    ClearInterrupt();
  }

  TempDir dir_;
  std::string text_ = dir_.file("text");
  std::string output_ = dir_.file("m.predictor.gguf");
  std::string other_ = dir_.file("other.predictor.gguf");
};

PredictorOptions OptionsOf(const std::vector<std::string>& flags) {
  PredictorOptions options;
  options.kind = flags[1] == "mlp" ? PredictorKind::kMlp : PredictorKind::kSvd;
  options.look_ahead = flags.back() == "--look-ahead";
  return options;
}

TEST_P(PredictorResumeTest, GivesTheSameBytes) {
  const std::vector<std::string>& flags = GetParam();
  EXPECT_THAT(Call(other_, flags), Not(HasSubstr("going on")));
  EXPECT_FALSE(std::filesystem::exists(UnfinishedPath(other_)));
  BuildFirstLayer(OptionsOf(flags));
  EXPECT_THAT(Call(output_, flags), AllOf(HasSubstr("going on"), HasSubstr("1 of 2 layers")));
  EXPECT_EQ(ReadWholeFile(output_), ReadWholeFile(other_));
  EXPECT_FALSE(std::filesystem::exists(UnfinishedPath(output_)));
}

INSTANTIATE_TEST_SUITE_P(Methods, PredictorResumeTest,
                         testing::Values(std::vector<std::string>{"--method", "svd"},
                                         std::vector<std::string>{"--method", "mlp"},
                                         std::vector<std::string>{"--method", "mlp",
                                                                  "--look-ahead"}));

using PredictorResume = PredictorResumeTest;

TEST_F(PredictorResume, OtherSettingsAreAnErrorWithBoth) {
  BuildFirstLayer({});
  const std::string kept = ReadWholeFile(UnfinishedPath(output_));
  for (const std::vector<std::string>& flags : std::vector<std::vector<std::string>>{
           {"--seed", "2"}, {"--method", "mlp"}, {"--look-ahead"}, {"--max-tokens", "4300"}}) {
    EXPECT_THAT(ErrorOf([&] { Call(output_, flags); }),
                AllOf(HasSubstr("did not finish"), HasSubstr("rank 32, F16, seed 1"),
                      HasSubstr("remove this file to start over")))
        << flags[0];
    EXPECT_EQ(ReadWholeFile(UnfinishedPath(output_)), kept);
  }
  // A build with another number of threads goes on.
  EXPECT_THAT(Call(output_, {"-t", "1"}), HasSubstr("going on"));
}

TEST_F(PredictorResume, AnUnfinishedFileIsNoPredictorYet) {
  BuildFirstLayer({});
  const PredictorFile file = ReadPredictor(UnfinishedPath(output_));
  ModelConfig config;
  config.n_layers = 2;
  config.d_model = file.d_model;
  config.d_ff = file.d_ff;
  EXPECT_THAT(
      ErrorOf([&] { CheckPredictorFits(file, config, "m.gguf", {file.model_fingerprint}); }),
      AllOf(HasSubstr("not finished"), HasSubstr("expected 2 layers"), HasSubstr("found 1")));
  EXPECT_THAT(InspectionText(InspectFile(GgufReader(UnfinishedPath(output_)))),
              HasSubstr("unfinished predictor"));
}

// The settings are a text anyone can write; the layers must fit all the same.
TEST_F(PredictorResume, LayersOfAnotherShapeAreRefused) {
  BuildFirstLayer({});
  PredictorFile file = ReadPredictor(UnfinishedPath(output_));
  for (int i = 0; i < 2; ++i) file.layers.push_back(file.layers[0]);
  WritePredictor(UnfinishedPath(output_), file);
  EXPECT_THAT(ErrorOf([&] { Call(output_, {}); }), HasSubstr("do not fit the model"));
  WriteWholeFile(UnfinishedPath(output_), "GGUF");
  EXPECT_NE(ErrorOf([&] { Call(output_, {}); }), "");
}

}  // namespace
}  // namespace thermocline
