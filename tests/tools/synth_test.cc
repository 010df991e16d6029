// synth: reproducible models, the activity asked for, and the profile and placement that go with
// them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "profiler/activations/profile_file.h"
#include "runtime/model/families.h"
#include "runtime/placement/placement.h"
#include "runtime/placement/predictor_file.h"
#include "runtime/synth/synth_activity.h"
#include "tests/support/temp_dir.h"
#include "tests/tools/tool_process.h"

namespace thermocline {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

TEST(SynthVerb, TheSameSeedGivesTheSameFileForAnyThreadsAndItRuns) {
  const TempDir directory;
  const auto make = [&](const std::string& name, const std::string& threads,
                        const std::string& seed) {
    const ToolResult result = RunTool({"synth",
                                       "--n-layers",
                                       "2",
                                       "--d-model",
                                       "128",
                                       "--d-ff",
                                       "256",
                                       "--n-heads",
                                       "4",
                                       "--n-kv-heads",
                                       "2",
                                       "--vocab-size",
                                       "400",
                                       "--max-seq-len",
                                       "128",
                                       "--type",
                                       "Q4_0",
                                       "--activation",
                                       "relu",
                                       "-t",
                                       threads,
                                       "--seed",
                                       seed,
                                       "-o",
                                       directory.file(name)});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return ReadWholeFile(directory.file(name));
  };
  const std::string one = make("a.gguf", "1", "5");
  EXPECT_EQ(one, make("b.gguf", "3", "5"));
  EXPECT_NE(one, make("c.gguf", "1", "6"));
  const ToolResult run =
      RunTool({"run", "-m", directory.file("a.gguf"), "-p", "a", "-n", "4", "--temp", "0"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
}

TEST(SynthVerb, WindowsLeaveABoundedKvCache) {
  const TempDir directory;
  const std::string path = directory.file("windowed.gguf");
  const ToolResult made = RunTool({"synth", "--n-layers",       "4",    "--d-model",
                                   "64",    "--d-ff",           "64",   "--n-heads",
                                   "2",     "--n-kv-heads",     "1",    "--vocab-size",
                                   "300",   "--max-seq-len",    "2048", "--window",
                                   "40",    "--window-pattern", "4",    "-o",
                                   path});
  EXPECT_EQ(made.exit_code, 0) << made.err;
  const auto plan_of = [&](const std::vector<std::string>& more) {
    std::vector<std::string> args = {"run", "-m", path, "-b", "64", "--dry-run"};
    args.insert(args.end(), more.begin(), more.end());
    return RunTool(args).out;
  };
  const auto plan = nlohmann::json::parse(plan_of({"--json"}));
  ASSERT_EQ(plan["kv_classes"].size(), 2U);
  const nlohmann::json all = {{"window", 0}, {"n_layers", 1}, {"n_tokens", 2048}};
  const nlohmann::json last = {{"window", 40}, {"n_layers", 3}, {"n_tokens", 320}};
  uint64_t kv_bytes = 0;
  for (const auto& [found, expected] :
       {std::pair{plan["kv_classes"][0], all}, {plan["kv_classes"][1], last}}) {
    for (const auto& [key, value] : expected.items()) EXPECT_EQ(found[key], value) << key;
    const auto n_rows = found["n_layers"].get<uint64_t>() * found["n_tokens"].get<uint64_t>();
    EXPECT_EQ(found["bytes"], n_rows * 2 * 32 * 2);  // keys and values of a head of 32 in f16
    kv_bytes += found["bytes"].get<uint64_t>();
  }
  EXPECT_EQ(plan["kv_bytes"], kv_bytes);
  EXPECT_THAT(plan_of({}),
              AllOf(HasSubstr("KV cache, all positions"), HasSubstr("KV cache, window 40")));
  EXPECT_THAT(RunTool({"inspect", path}).out, HasSubstr("in 3 layers with a window of 40"));
  const auto full = nlohmann::json::parse(plan_of({"--swa-full", "--json"}));
  EXPECT_EQ(full["kv_classes"].size(), 1U);
  EXPECT_EQ(full["kv_bytes"], uint64_t{4} * 2048 * 2 * 32 * 2);
}

TEST(SynthVerb, RefusesDimensionsThatDoNotGoTogether) {
  const TempDir directory;
  const std::vector<std::vector<std::string>> bad = {
      {"--d-model", "100"},      {"--n-heads", "3"}, {"--n-kv-heads", "5"},
      {"--like", "llama-9000b"}, {"--type", "Q9"},   {"--d-model", "320", "--type", "Q6_K"}};
  for (const auto& flags : bad) {
    std::vector<std::string> arguments = {"synth", "-o", directory.file("x.gguf")};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    const ToolResult result = RunTool(arguments);
    EXPECT_EQ(result.exit_code, 1) << flags[0];
    EXPECT_THAT(result.err, HasSubstr(flags[0]));
    EXPECT_THAT(result.err, HasSubstr("expected"));
  }
  EXPECT_EQ(directory.n_entries(), 0U);
}

// Runs `synth` of a small model, with more flags.
ToolResult Synth(const TempDir& directory, const std::vector<std::string>& flags) {
  std::vector<std::string> arguments = {"synth",
                                        "--n-layers",
                                        "2",
                                        "--d-model",
                                        "128",
                                        "--d-ff",
                                        "512",
                                        "--n-heads",
                                        "4",
                                        "-t",
                                        "2",
                                        "--n-kv-heads",
                                        "2",
                                        "--vocab-size",
                                        "1000",
                                        "-o",
                                        directory.file("model.gguf")};
  arguments.insert(arguments.end(), flags.begin(), flags.end());
  return RunTool(arguments);
}

TEST(SynthVerb, MeasuresTheActivityAndWritesWhatGoesWithIt) {
  const TempDir directory;
  const ToolResult synth =
      Synth(directory, {"--activation", "relu_sqr", "--density", "8%", "--skew", "20:75",
                        "--profile", directory.file("profile.gguf"), "--placement",
                        directory.file("placement.gguf"), "--vram", "16M", "--ram", "64M"});
  ASSERT_EQ(synth.exit_code, 0) << synth.err;
  EXPECT_THAT(synth.out, AllOf(HasSubstr("neurons that fire in a token       8.00 %"),
                               HasSubstr("activations on hottest 20 %       75.00 %"),
                               HasSubstr("rank correlation"), HasSubstr("1024 random tokens")));

  // The fingerprint is the model's, and the order is the true one.
  const GgufReader model(directory.file("model.gguf"));
  const ProfileStats stats = ReadProfile(directory.file("profile.gguf"));
  EXPECT_EQ(stats.model_fingerprint, model.fingerprint());
  EXPECT_EQ(stats.calibration.corpus_hash, "synthetic");
  const Placement placement = ReadPlacement(directory.file("placement.gguf"));
  ASSERT_EQ(placement.layers.size(), 2U);
  // Neurons at the cap are equally hot and stand in any order.
  const std::vector<double> wanted = FiringProbabilities({0.08, 0.2, 0.75}, 512);
  const std::vector<int32_t> hot_to_cold = HotToCold(1, 1, 512);
  std::vector<double> by_neuron(512);
  for (size_t i = 0; i < 512; ++i) by_neuron[static_cast<size_t>(hot_to_cold[i])] = wanted[i];
  for (size_t i = 0; i < 512; ++i) {
    const int32_t neuron = placement.layers[1].neuron_order[i];
    EXPECT_EQ(by_neuron[static_cast<size_t>(neuron)], wanted[i]) << i;
  }
  EXPECT_EQ(placement.vram_budget_bytes, uint64_t{16} << 20);

  const std::vector<std::vector<std::string>> uses = {
      {"run", "-p", "a", "-n", "4", "--temp", "0", "--placement", directory.file("placement.gguf")},
      {"bench", "--prompts", "1", "-n", "4", "--prompt-tokens", "8", "--no-bandwidth",
       "--placement", directory.file("placement.gguf")},
      {"pack", "-o", directory.file("packed.gguf"), "--placement",
       directory.file("placement.gguf")},
      {"place", "--vram", "15M", "--ram", "64M", "--profile", directory.file("profile.gguf"), "-o",
       directory.file("other.placement.gguf")}};
  for (std::vector<std::string> use : uses) {
    use.insert(use.end(), {"-m", directory.file("model.gguf")});
    const ToolResult result = RunTool(use);
    EXPECT_EQ(result.exit_code, 0) << use[0] << ": " << result.err;
  }
}

TEST(SynthVerb, WritesThePredictorOfItsGates) {
  const TempDir directory;
  const std::string predictor = directory.file("p.gguf");
  const ToolResult synth =
      Synth(directory, {"--activation", "relu", "--density", "0.1", "--type", "Q4_0", "--gate-rank",
                        "32", "--predictor", predictor});
  ASSERT_EQ(synth.exit_code, 0) << synth.err;
  EXPECT_THAT(synth.out, AllOf(HasSubstr("rank 32, Q8_0"), HasSubstr("recall"), HasSubstr("ratio"),
                               HasSubstr("neurons that fire in a token")));
  const PredictorFile file = ReadPredictor(predictor);
  EXPECT_EQ(file.model_fingerprint, GgufReader(directory.file("model.gguf")).fingerprint());
  EXPECT_EQ(file.corpus_hash, "synthetic");
  const ToolResult f16 = Synth(directory, {"--activation", "relu", "--gate-rank", "32",
                                           "--predictor", predictor, "--predictor-type", "F16"});
  ASSERT_EQ(f16.exit_code, 0) << f16.err;
  EXPECT_EQ(ReadPredictor(predictor).layers[0].predictor.in_proj.dtype, DType::kF16);
}

TEST(SynthVerb, RefusesPredictorsThatCannotBe) {
  const TempDir directory;
  const std::string predictor = directory.file("p.gguf");
  const std::vector<std::pair<std::vector<std::string>, std::string>> bad = {
      {{"--activation", "relu", "--predictor", predictor}, "--gate-rank"},
      {{"--gate-rank", "32", "--predictor", predictor}, "true zeros"},
      {{"--activation", "relu", "--gate-rank", "32", "--predictor-type", "F16"}, "--predictor"},
      {{"--activation", "relu", "--gate-rank", "32", "--predictor", directory.file("model.gguf")},
       "two outputs have one name"}};
  for (const auto& [flags, expected] : bad) {
    const ToolResult result = Synth(directory, flags);
    EXPECT_EQ(result.exit_code, 2) << expected;
    EXPECT_THAT(result.err, HasSubstr(expected));
  }
  for (const std::string rank : {"48", "160"}) {  // of a d_model of 128
    const ToolResult result = Synth(directory, {"--gate-rank", rank});
    EXPECT_EQ(result.exit_code, 1) << rank;
    EXPECT_EQ(result.err,
              "thermocline: the rank of the gates: expected a multiple of 32, at most 128, found " +
                  rank + " (--gate-rank)\n");
  }
  EXPECT_EQ(directory.n_entries(), 0U);
}

TEST(SynthVerb, PlacesBySharesAndWithoutMeasuring) {
  const TempDir directory;
  const ToolResult synth =
      Synth(directory, {"--activation", "relu", "--density", "0.1", "--no-check", "--placement",
                        directory.file("placement.gguf"), "--hot", "25%"});
  ASSERT_EQ(synth.exit_code, 0) << synth.err;
  EXPECT_THAT(synth.out, AllOf(HasSubstr("placement: "), Not(HasSubstr("measured"))));
  EXPECT_EQ(ReadPlacement(directory.file("placement.gguf")).layers[0].n_on[kVram], 128);
}

TEST(SynthVerb, ActivityFarFromWhatWasAskedIsAnError) {
  const TempDir directory;
  // 32 neurons of 32 inputs are too few to be normal about.
  const ToolResult synth =
      Synth(directory, {"--activation", "relu", "--density", "0.005", "--d-model", "32", "--d-ff",
                        "32", "--n-heads", "1", "--n-kv-heads", "1"});
  EXPECT_EQ(synth.exit_code, 1);
  EXPECT_THAT(synth.out, HasSubstr("measured"));
  EXPECT_THAT(synth.err, AllOf(HasSubstr("the activity measured is not what was asked for"),
                               HasSubstr("expected within 10 % in every layer, found")));
}

TEST(SynthVerb, ABudgetThatIsTooSmallLeavesModelAndProfile) {
  const TempDir directory;
  const ToolResult synth =
      Synth(directory, {"--activation", "relu", "--density", "0.1", "--profile",
                        directory.file("profile.gguf"), "--placement",
                        directory.file("placement.gguf"), "--vram", "1M", "--ram", "64M"});
  EXPECT_EQ(synth.exit_code, 1);
  EXPECT_THAT(synth.err, AllOf(HasSubstr("the VRAM budget is too small"),
                               HasSubstr("or a model quantised further (--vram, -c, -b)\n")));
  EXPECT_EQ(directory.n_entries(), 2U);
}

TEST(SynthVerb, RefusesFlagsThatDoNotGoTogether) {
  const TempDir directory;
  const std::string out = directory.file("x.gguf");
  struct Case {
    std::vector<std::string> flags;
    int exit_code;
    std::string says;
  };
  const std::vector<Case> bad = {
      {{"--density", "0.1"}, 2, "--activation relu, reglu or relu_sqr, found silu"},
      {{"--activation", "relu", "--skew", "26:80"}, 2, "--skew requires --density"},
      {{"--activation", "relu", "--no-check"}, 2, "--no-check requires --density"},
      {{"--activation", "relu", "--profile", out}, 2, "--profile requires --density"},
      {{"--activation", "relu", "--density", "1.5"}, 2, "'1.5' is not a share"},
      {{"--activation", "relu", "--density", "nan"}, 2, "'nan' is not a share"},
      {{"--activation", "relu", "--density", "0"}, 1, "the density: expected above 0"},
      {{"--activation", "relu", "--density", "0.1", "--skew", "80"}, 2, "'80' is no skew"},
      {{"--activation", "relu", "--density", "0.1", "--skew", "26:100"}, 2, "'26:100' is no skew"},
      {{"--activation", "relu", "--density", "0.1", "--skew", "-5:80"}, 2, "'-5:80' is no skew"},
      {{"--activation", "relu", "--density", "0.1", "--skew", "26:80:1"}, 2, "'26:80:1' is no"},
      {{"--activation", "relu", "--density", "0.9", "--skew", "10:90"}, 1, "(--skew, --density)"},
      {{"--activation", "relu", "--density", "0.1", "--placement", out}, 2, "give --vram SIZE"},
      {{"--activation", "relu", "--density", "0.1", "--vram", "1G"}, 2, "give --placement FILE"},
      {{"--activation", "relu", "--density", "0.1", "--ram", "1G"}, 2, "give --placement FILE"},
      {{"--activation", "relu", "--density", "0.1", "--profile", directory.file("model.gguf")},
       2,
       "two outputs have one name"},
      {{"--activation", "relu", "--density", "0.1", "--profile", directory.file("no/x.gguf")},
       1,
       "cannot write here"}};
  for (const Case& c : bad) {
    const ToolResult result = Synth(directory, c.flags);
    EXPECT_EQ(result.exit_code, c.exit_code) << c.says;
    EXPECT_THAT(result.err, HasSubstr(c.says));
  }
  EXPECT_EQ(directory.n_entries(), 0U);
}

}  // namespace
}  // namespace thermocline
