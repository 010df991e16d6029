// What mode predicted does to the text's probabilities, on text that nothing was fitted to.
#include <cmath>

#include "tests/engine/predicted_fixture.h"

namespace thermocline {
namespace {

class PredictedQuality : public Predicted {
 protected:
  static void SetUpTestSuite() { Build({"svd", "ahead", "sign"}); }
};

// The quality of the default operating point that issue 4 asks for; and better points are better.
TEST_F(PredictedQuality, QualityFollowsTheRecall) {
  for (const char* name : {"svd", "sign"}) {
    EngineOptions options = Options();
    options.predictor = dir->file(name);
    double kl = 1;
    double recall = 0;
    int64_t gates = 0;
    for (const double wanted : {0.85, 0.95, 0.99}) {
      options.predictor_recall = wanted;
      const PerplexityResult result = Quality(options, kListMaxTokens);
      const FfnCount count = result.counts.Sum();
      EXPECT_LT(result.mean_kl, kl) << name << " at " << wanted;
      EXPECT_GT(count.Recall(), recall);
      EXPECT_GT(count.gates, gates);
      EXPECT_NEAR(count.Recall(), wanted, 0.05);
      if (wanted == kDefaultPredictorRecall) {
        EXPECT_LE(result.nll_per_token, result.dense_nll_per_token + std::log(1.01)) << name;
      }
      kl = result.mean_kl;
      recall = count.Recall();
      gates = count.gates;
    }
  }
}

// Recall and density are those that the file tells only where the input of the layer before
// arrives.
TEST_F(PredictedQuality, LookingAheadReadsTheLayerBefore) {
  EngineOptions options = Options();
  options.predictor = dir->file("ahead");
  for (const double split : {-1.0, 0.25}) {
    for (const int64_t batch : {1, 16}) {
      EngineOptions placed = options;
      if (split >= 0) placed.placement_path = Place(options, split);
      const FfnCount count = Quality(placed, batch).counts.Sum();
      EXPECT_NEAR(count.Recall(), 0.95, 0.03) << split << ", batches of " << batch;
    }
  }
}

TEST_F(PredictedQuality, BatchesAreMaskedTokenByToken) {
  EngineOptions options = Options();
  options.predictor = dir->file("svd");
  const PerplexityResult one = Quality(options, 1);
  for (const int64_t batch : {2, 8, 16}) {
    const PerplexityResult several = Quality(options, batch);
    EXPECT_EQ(several.counts.tokens, one.counts.tokens);
    EXPECT_NEAR(several.counts.Sum().Recall(), one.counts.Sum().Recall(), 2e-3);
    EXPECT_NEAR(several.nll_per_token, one.nll_per_token, 5e-3);
  }
}

}  // namespace
}  // namespace thermocline
