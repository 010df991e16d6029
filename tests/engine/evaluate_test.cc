#include "runtime/engine/evaluate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <vector>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

TEST(Evaluate, NllAndKlAgainstHandComputedValues) {
  // softmax(0, ln 2, ln 5) = 1/8, 2/8, 5/8.
  const std::vector<float> p = {0, std::log(2.0F), std::log(5.0F)};
  EXPECT_NEAR(NegativeLogLikelihood(p, 1), std::log(4.0), 1e-6);
  const std::vector<float> q = {1, 1, 1};
  const double kl = std::log(3.0 / 8) / 8 + std::log(6.0 / 8) / 4 + 5 * std::log(15.0 / 8) / 8;
  EXPECT_NEAR(KlDivergence(p, q), kl, 1e-6);
  EXPECT_EQ(KlDivergence(p, p), 0);
  // Large logits must not overflow.
  EXPECT_NEAR(NegativeLogLikelihood(std::vector<float>{1000, 1000}, 0), std::log(2.0), 1e-9);
}

TEST(Evaluate, BestTokenTakesTheLowestIdOfEqualsAndItsLead) {
  EXPECT_EQ(FindBest(std::vector<float>{1, 3, 3, 2}).id, 1);
  EXPECT_EQ(FindBest(std::vector<float>{1, 3, 3, 2}).margin, 0);
  EXPECT_EQ(FindBest(std::vector<float>{5, 3, 4}).margin, 1);
}

Engine OpenTiny(const std::string& sparse, int64_t batch) {
  EngineOptions options;
  options.model_path = std::string(THERMOCLINE_SOURCE_DIR) + "/tests/golden/gqa_relu.gguf";
  options.sparse = sparse;
  options.batch_tokens = batch;
  options.n_threads = 2;
  options.all_logits = true;
  return Engine(options);
}

TEST(Evaluate, EveryTokenIsCountedWhateverTheWindows) {
  auto engine = OpenTiny("dense", 16);
  std::vector<int32_t> ids;
  for (int i = 0; i < 50; ++i) ids.push_back(260 + i % 20);
  for (const int64_t window : {1, 7, 20, 49, 50, 60}) {
    PerplexityOptions options;
    options.window_tokens = window;
    const PerplexityResult result = EvaluatePerplexity(engine, ids, options);
    EXPECT_EQ(result.tokens, 50) << window;
    EXPECT_EQ(result.windows, (50 + window - 1) / window);
    EXPECT_NEAR(result.perplexity, std::exp(result.nll_per_token), 1e-9);
  }
  EXPECT_THROW(EvaluatePerplexity(engine, std::vector<int32_t>{5}, {}), Error);
}

TEST(Evaluate, ExactModeEqualsDenseTokenByToken) {
  auto engine = OpenTiny("exact", 1);
  std::vector<int32_t> ids;
  for (int i = 0; i < 40; ++i) ids.push_back(3 + i * 7 % 280);
  PerplexityOptions options;
  options.compare_to_dense = true;
  const PerplexityResult result = EvaluatePerplexity(engine, ids, options);
  EXPECT_EQ(result.mean_kl, 0);
  EXPECT_EQ(result.top1_agreement, 1);
  EXPECT_EQ(result.nll_per_token, result.dense_nll_per_token);
}

TEST(Evaluate, ClassicsPerplexityWithinATenthOfAPercentOfTheGolden) {
  const std::string data = std::string(THERMOCLINE_SOURCE_DIR) + "/../shared/data/";
  if (!std::filesystem::exists(data + "models/classics-9m.golden.json")) {
    GTEST_SKIP() << data << " is not there; other tests here cover the arithmetic";
  }
  std::ifstream golden_file(data + "models/classics-9m.golden.json");
  const auto golden = nlohmann::json::parse(golden_file)["perplexity"];
  std::ifstream text_file(data + "text/classics-heldout.txt", std::ios::binary);
  std::string text(200000, '\0');
  text_file.read(text.data(), static_cast<std::streamsize>(text.size()));
  EngineOptions options;
  options.model_path = data + "models/classics-9m-relu-f16.gguf";
  options.n_threads = 2;
  options.all_logits = true;
  Engine engine(options);
  PerplexityOptions perplexity;
  perplexity.max_windows = 120;
  const auto result = EvaluatePerplexity(engine, engine.tokenizer().Encode(text), perplexity);
  EXPECT_EQ(result.tokens, golden["tokens"].get<int64_t>());
  const auto expected = golden["perplexity"].get<double>();
  EXPECT_NEAR(result.perplexity, expected, 1e-3 * expected);
}

}  // namespace
}  // namespace thermocline
