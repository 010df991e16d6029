// bench and perplexity: what they measure and print.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "runtime/core/error.h"
#include "runtime/timing/pass_timer.h"
#include "tests/tools/models.h"
#include "tests/tools/tool_process.h"
#include "tools/bench/compare_modes.h"

namespace thermocline {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

const char* const kHeldout = THERMOCLINE_SOURCE_DIR "/tools/demo.d/heldout.txt";

TEST(SpreadOf, InterpolatesPercentiles) {
  const Spread spread = SpreadOf({4, 1, 3, 2, 5});
  EXPECT_DOUBLE_EQ(spread.median, 3);
  EXPECT_DOUBLE_EQ(spread.p10, 1.4);
  EXPECT_DOUBLE_EQ(spread.p90, 4.6);
  EXPECT_DOUBLE_EQ(SpreadOf({7}).p90, 7);
  EXPECT_DOUBLE_EQ(SpreadOf({}).median, 0);
}

TEST(CompareModes, ExactIsComparedTokenByTokenWithDense) {
  EngineOptions options;
  options.model_path = GoldenModel("gqa_relu");
  options.sparse = "exact";
  options.n_threads = 1;
  Engine engine(options);
  ComparisonOptions comparison;
  comparison.n_prompts = 3;
  comparison.prompt_tokens = 5;
  comparison.decode_tokens = 7;
  int asked = 0;
  comparison.before_prompt = [&] { ++asked; };
  std::vector<int32_t> ids;
  for (int i = 0; i < 12; ++i) ids.push_back(20 + i * 11);
  const auto prompts = CutPrompts(engine.tokenizer(), ids, comparison);
  ASSERT_EQ(prompts.size(), 3U);
  EXPECT_EQ(prompts[1], (std::vector<int32_t>{1, 64, 75, 86, 97}));

  const auto results =
      CompareModes(engine, {SparseMode::kDense, SparseMode::kExact}, prompts, comparison);
  ASSERT_EQ(results.size(), 2U);
  EXPECT_EQ(asked, 3);
  EXPECT_EQ(results[1].tokens_compared, 21);
  EXPECT_EQ(results[1].tokens_identical, 21);
  EXPECT_EQ(results[1].mean_kl, 0);
  EXPECT_EQ(results[0].touched.bytes, results[0].touched.dense_bytes);
  EXPECT_LT(results[1].touched.bytes, results[1].touched.dense_bytes);
  EXPECT_EQ(results[0].touched.mean_density, 1);
  EXPECT_LT(results[1].touched.mean_density, 0.9);
  comparison.n_prompts = 4;
  EXPECT_THAT([&] { CutPrompts(engine.tokenizer(), ids, comparison); },
              ThrowsMessage<Error>(HasSubstr("too short")));
}

TEST(BenchVerb, JsonHoldsWhatTheTableShows) {
  const ToolResult result = RunTool({"bench", "-m", DemoModel(), "-f", kHeldout, "--prompts", "2",
                                     "-n", "8", "-o", "json", "--no-bandwidth", "-t", "2"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto json = nlohmann::json::parse(result.out);
  ASSERT_EQ(json["modes"].size(), 2U);
  const auto& exact = json["modes"][1];
  EXPECT_EQ(exact["mode"], "exact");
  EXPECT_EQ(exact["tokens_compared"], 16);
  EXPECT_EQ(exact["tokens_identical"], 16);
  EXPECT_GT(exact["ffn_sparsity"].get<double>(), 0.5);
  EXPECT_LT(exact["touched_bytes_per_token"].get<double>(),
            0.8 * exact["dense_bytes_per_token"].get<double>());
  EXPECT_GT(exact["decode_tokens_per_s"]["median"].get<double>(), 0);
}

TEST(BenchVerb, SeveralSequencesWriteWhatEachWritesAlone) {
  const ToolResult result =
      RunTool({"bench", "-m", GoldenModel("gqa_relu"), "--prompts", "2", "--prompt-tokens", "8",
               "-n", "4", "--parallel", "3", "-t", "2", "-o", "json", "--no-bandwidth"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto json = nlohmann::json::parse(result.out);
  ASSERT_EQ(json["parallel"].size(), 2U);  // dense and exact
  for (const auto& mode : json["parallel"]) {
    EXPECT_EQ(mode["sequences"], 3);
    EXPECT_EQ(mode["tokens_compared"], 8);
    EXPECT_EQ(mode["tokens_identical"], 8);
    EXPECT_GT(mode["all_tokens_per_s"]["median"], 0);
  }
}

TEST(BenchVerb, ASiluModelIsMeasuredDenseAndTheTableSaysWhy) {
  const ToolResult result = RunTool({"bench", "-m", GoldenModel("mha_silu_tied"), "--prompts", "2",
                                     "-n", "4", "--prompt-tokens", "8", "--no-bandwidth"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("nothing exact to skip"));
}

nlohmann::json RooflineRun(const std::string& cache_type) {
  const ToolResult result = RunTool(
      {"bench",      "-m",          DemoModel(), "-f",           kHeldout,   "--prompts",
       "1",          "-n",          "4",         "-o",           "json",     "--no-bandwidth",
       "--roofline", "--fast-tier", "cpu",       "--cache-type", cache_type, "-t",
       "2",          "--predictor", "sign"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  return nlohmann::json::parse(result.out);
}

// No check looks at how long anything took, beyond that it is a time.
void ExpectSaneRoofline(const nlohmann::json& roofline, std::vector<std::string> names) {
  double bytes = 0;
  double ms = 0;
  std::vector<std::string> found;
  for (const auto& part : roofline["parts"]) {
    found.push_back(part["part"]);
    EXPECT_GE(part["bytes_per_token"].get<double>(), 0);
    EXPECT_GE(part["ms_per_token"].get<double>(), 0);
    EXPECT_GE(part["share_of_read_bandwidth"].get<double>(), 0);
    bytes += part["bytes_per_token"].get<double>();
    ms += part["ms_per_token"].get<double>();
  }
  EXPECT_EQ(found, names);
  const auto& token = roofline["token"];
  EXPECT_EQ(token["part"], "token");
  EXPECT_NEAR(token["bytes_per_token"].get<double>(), bytes, 1e-9 * bytes);
  EXPECT_NEAR(token["ms_per_token"].get<double>(), ms, 1e-9 * ms);  // one prompt: no medians
  EXPECT_GT(roofline["read_bandwidth_bytes_per_s"].get<double>(), 0);
}

double PartBytes(const nlohmann::json& roofline, const std::string& name) {
  for (const auto& part : roofline["parts"]) {
    if (part["part"] == name) return part["bytes_per_token"].get<double>();
  }
  return -1;
}

TEST(BenchVerb, RooflineHoldsEveryPartOnce) {
  const nlohmann::json f16 = RooflineRun("f16");
  const nlohmann::json q8 = RooflineRun("q8_0");
  const std::vector<std::string> all(kPassPartNames.begin(),
                                     kPassPartNames.begin() + kOneTierParts);
  std::vector<std::string> exact_parts = all;
  std::erase(exact_parts, "predictor");
  std::vector<std::string> dense_parts = exact_parts;  // there up runs with gate
  std::erase(dense_parts, "up");
  for (const nlohmann::json& json : {f16, q8}) {
    ASSERT_EQ(json["rooflines"].size(), 3U);
    const auto& dense = json["rooflines"][0];
    const auto& exact = json["rooflines"][1];
    EXPECT_EQ(dense["mode"], "dense");
    EXPECT_EQ(exact["mode"], "exact");
    ExpectSaneRoofline(dense, dense_parts);
    ExpectSaneRoofline(exact, exact_parts);
    const auto& predicted = json["rooflines"][2];
    EXPECT_EQ(predicted["mode"], "predicted");
    ExpectSaneRoofline(predicted, all);
    EXPECT_EQ(PartBytes(predicted, "predictor"), 8 * 1024 * 256 / 8);
    EXPECT_LT(PartBytes(predicted, "gate"), PartBytes(exact, "gate"));
    // The bytes are all weights of the comparison, and the cache beside them.
    EXPECT_NEAR(dense["token"]["bytes_per_token"].get<double>() - PartBytes(dense, "attention"),
                json["modes"][0]["touched_bytes_per_token"].get<double>(), 1);
    EXPECT_EQ(PartBytes(dense, "gate") + PartBytes(dense, "down"), 3 * PartBytes(exact, "gate"));
    EXPECT_LT(PartBytes(exact, "up"), 0.5 * PartBytes(exact, "gate"));
    EXPECT_EQ(PartBytes(exact, "up"), PartBytes(exact, "down"));
  }
  // A block of q8_0 takes 34 bytes per 32 elements instead of 64.
  EXPECT_NEAR(PartBytes(q8["rooflines"][0], "attention"),
              PartBytes(f16["rooflines"][0], "attention") * 34 / 64, 1e-6);
}

TEST(BenchVerb, ATraceHoldsAProcessPerMode) {
  TempDir dir;
  const ToolResult result = RunTool({"bench", "-m", DemoModel(), "--prompts", "2", "-n", "3",
                                     "--prompt-tokens", "8", "--no-bandwidth", "-o", "json",
                                     "--fast-tier", "cpu", "--trace", dir.file("t.json")});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_FALSE(nlohmann::json::parse(result.out).contains("steps")) << "there is no GPU";
  std::vector<std::string> modes;
  int n_tokens = 0;
  for (const auto& event : nlohmann::json::parse(ReadWholeFile(dir.file("t.json")))) {
    if (event["name"] == "process_name") modes.push_back(event["args"]["name"]);
    n_tokens += event["name"] == "token" ? 1 : 0;
  }
  EXPECT_EQ(modes, (std::vector<std::string>{"dense", "exact"}));
  EXPECT_EQ(n_tokens, 2 * 2 * 3);
}

TEST(BenchVerb, TheTableShowsTheRooflineOfEachMode) {
  const ToolResult result = RunTool({"bench", "-m", DemoModel(), "--prompts", "1", "-n", "2",
                                     "--prompt-tokens", "8", "--no-bandwidth", "--roofline"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto count = [&](const std::string& text) {
    int n = 0;
    for (size_t at = result.out.find(text); at != std::string::npos;
         at = result.out.find(text, at + 1)) {
      ++n;
    }
    return n;
  };
  EXPECT_THAT(result.out, HasSubstr("dense, decode by part at 9 tokens of context"));
  EXPECT_THAT(result.out, HasSubstr("exact, decode by part at 9 tokens of context"));
  for (const std::string_view name : std::span(kPassPartNames).first(kOneTierParts)) {
    const int expected = name == "predictor" ? 0 : name == "up" ? 1 : 2;
    EXPECT_EQ(count("\n" + std::string(name) + "  "), expected) << name;
  }
  EXPECT_EQ(count("\ntoken  "), 2);
}

TEST(PerplexityVerb, ExactTokenByTokenEqualsDense) {
  const ToolResult result =
      RunTool({"perplexity", "-m", DemoModel(), "-f", kHeldout, "--max-windows", "1", "-c", "64",
               "-b", "1", "--sparse", "exact", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json["tokens"], 63);
  EXPECT_EQ(json["mean_kl_nats"], 0);
  EXPECT_EQ(json["top1_agreement"], 1);
  EXPECT_EQ(json["nll_per_token"], json["dense_nll_per_token"]);
  EXPECT_GT(json["perplexity"].get<double>(), 1);
  EXPECT_LT(json["perplexity"].get<double>(), 500);  // uniform over the vocabulary would be 4096
}

TEST(PerplexityVerb, PredictedTellsRecallLayerByLayer) {
  const std::vector<std::string> args = {"perplexity", "-m",          DemoModel(), "-f",
                                         kHeldout,     "-c",          "64",        "--max-windows",
                                         "3",          "--predictor", "sign"};
  std::vector<std::string> json_args = args;
  json_args.emplace_back("--json");
  const ToolResult result = RunTool(json_args);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json["mode"], "predicted");
  EXPECT_GT(json["mean_kl_nats"], 0);
  ASSERT_EQ(json["layers"].size(), 8U);
  for (const auto& layer : json["layers"]) {
    EXPECT_GT(layer["recall"], 0.5);
    EXPECT_LE(layer["recall"], 1);
    EXPECT_GT(layer["predicted_density"], layer["true_density"]);
    EXPECT_EQ(layer["predictor_bytes_per_token"], 1024 * 256 / 8);
  }
  const ToolResult table = RunTool(args);
  EXPECT_THAT(table.out, HasSubstr("predictor       sign bits of the gates, not calibrated\n"));
  EXPECT_THAT(table.out, HasSubstr("\ntotal "));
}

TEST(BenchVerb, PredictedIsComparedTokenByToken) {
  const ToolResult result =
      RunTool({"bench", "-m", DemoModel(), "-f", kHeldout, "--prompts", "2", "-n", "8",
               "--no-bandwidth", "--predictor", "sign", "-o", "json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto json = nlohmann::json::parse(result.out);
  ASSERT_EQ(json["modes"].size(), 3U);
  const auto& exact = json["modes"][1];
  const auto& predicted = json["modes"][2];
  EXPECT_EQ(predicted["mode"], "predicted");
  EXPECT_TRUE(exact["recall"].is_null());
  EXPECT_GT(predicted["recall"], 0.5);
  EXPECT_LT(predicted["recall"], 1);
  EXPECT_LT(predicted["gates_computed"], 1);
  EXPECT_LT(predicted["touched_bytes_per_token"], exact["touched_bytes_per_token"]);
  EXPECT_GT(predicted["speed_up_bound_by_bytes"], exact["speed_up_bound_by_bytes"]);
  EXPECT_TRUE(predicted["followed_the_baseline"]);
  EXPECT_EQ(predicted["tokens_compared"], 16);
}

}  // namespace
}  // namespace thermocline
