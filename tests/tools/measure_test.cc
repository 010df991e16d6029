// bench, perplexity and synth: what they measure and print, and that synthetic models are
// reproducible.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "runtime/core/error.h"
#include "tests/support/temp_dir.h"
#include "tests/tools/models.h"
#include "tests/tools/tool_process.h"
#include "tools/compare_modes.h"

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

TEST(BenchVerb, ASiluModelIsMeasuredDenseAndTheTableSaysWhy) {
  const ToolResult result = RunTool({"bench", "-m", GoldenModel("mha_silu_tied"), "--prompts", "2",
                                     "-n", "4", "--prompt-tokens", "8", "--no-bandwidth"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("nothing exact to skip"));
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

TEST(SynthVerb, RefusesDimensionsThatDoNotGoTogether) {
  const TempDir directory;
  const std::vector<std::vector<std::string>> bad = {
      {"--d-model", "100"},   {"--n-heads", "3"},        {"--n-kv-heads", "5"},
      {"--vocab-size", "10"}, {"--like", "llama-9000b"}, {"--type", "Q9"}};
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

}  // namespace
}  // namespace thermocline
