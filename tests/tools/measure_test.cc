// bench and perplexity: what they measure and print.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "runtime/core/error.h"
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

}  // namespace
}  // namespace thermocline
