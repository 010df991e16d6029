// What drafting is expected to bring: texts whose chains are known, gone through by the rules by
// which drafts end, and times against those of the parts.
#include "profiler/placement/draft_cost.h"

#include <gtest/gtest.h>

#include <cmath>

#include "runtime/sampling/random.h"
#include "tests/profiler/profiler_testing.h"
#include "tests/rates/fixed_rates.h"

namespace thermocline {
namespace {

constexpr int64_t kDepth = 8;

// Texts in which every chain is right for so many tokens, and as sure as is said.
DraftChains Chains(int64_t n_positions, const std::vector<int32_t>& accepted, float certainty) {
  DraftChains chains;
  chains.n_texts = 1;
  chains.depth = kDepth;
  for (int64_t i = 0; i < n_positions; ++i) {
    chains.accepted.push_back(accepted[static_cast<size_t>(i) % accepted.size()]);
  }
  chains.certainty.assign(static_cast<size_t>(n_positions * kDepth), certainty);
  return chains;
}

// A plain pass of 10 ms, and a row more at so much.
DraftingTimes Times(double draft_ms, double row_ms) {
  DraftingTimes times;
  times.draft_ms = draft_ms;
  for (int64_t n = 0; n <= kDepth; ++n) {
    times.verify_ms.push_back(10 + row_ms * static_cast<double>(n));
  }
  return times;
}

TEST(DraftCost, AChainThatIsAlwaysRightIsAsLongAsItMayBe) {
  const DraftPrediction p = PredictChains(Chains(300, {kDepth}, 1), Times(0.5, 0.1), 7);
  EXPECT_EQ(p.max_drafted, 7);
  EXPECT_DOUBLE_EQ(p.n_drafted, 7);
  EXPECT_DOUBLE_EQ(p.n_draft_passes, 7);
  EXPECT_DOUBLE_EQ(p.tokens_per_pass, 8);
  EXPECT_NEAR(p.draft_ms, 3.5, 1e-9);
  EXPECT_NEAR(p.verify_ms, 10.7, 1e-9);
  EXPECT_NEAR(p.ms_per_token(), 14.2 / 8, 1e-9);
}

TEST(DraftCost, AChainThatIsNeverRightEndsAtOnce) {
  // A token is computed, and found to be not worth its row.
  const DraftPrediction p = PredictChains(Chains(300, {0}, 0.05F), Times(2, 0.5), 7);
  EXPECT_NEAR(p.n_drafted, 0, 0.01);
  EXPECT_NEAR(p.n_draft_passes, 1, 0.01);
  EXPECT_NEAR(p.tokens_per_pass, 1, 0.01);
  EXPECT_NEAR(p.ms_per_token(), 12, 0.2);
}

TEST(DraftCost, GoesOnBehindWhatWasAccepted) {
  // Right for three tokens at the positions where a draft begins, which are every fourth, and never
  // at those between.
  const DraftPrediction p = PredictChains(Chains(400, {3, 0, 0, 0}, 0.9F), Times(0.01, 0.01), 3);
  EXPECT_NEAR(p.tokens_per_pass, 4, 1e-9);
}

// With chances that are independent, the best depth is close to that of the formula.
TEST(DraftCost, TheBestDepthIsThatOfTheFormula) {
  for (const double acceptance : {0.6, 0.8, 0.9}) {
    std::vector<int32_t> accepted;
    thermocline::Random random(7);
    for (int i = 0; i < 4000; ++i) {
      int32_t n = 0;
      while (n < kDepth && random.Uniform() < acceptance) ++n;
      accepted.push_back(n);
    }
    const DraftChains chains = Chains(4000, accepted, static_cast<float>(acceptance));
    for (const double draft_ms : {0.5, 2.0}) {
      const DraftingTimes times = Times(draft_ms, 0.3);
      const auto predictions = PredictDrafting(chains, times);
      EXPECT_EQ(predictions.front().max_drafted, 0);
      EXPECT_DOUBLE_EQ(predictions.front().ms_per_token(), 10);
      double best = 10;
      for (int64_t k = 1; k <= kDepth; ++k) {
        const double tokens =
            (1 - std::pow(acceptance, static_cast<double>(k + 1))) / (1 - acceptance);
        best = std::min(best, (10 + (draft_ms + 0.3) * static_cast<double>(k)) / tokens);
      }
      EXPECT_NEAR(BestOf(predictions).ms_per_token(), best, 0.06 * best)
          << acceptance << " " << draft_ms;
    }
  }
}

TEST(DraftCost, WhatAVerifyingPassReads) {
  EngineOptions options;
  options.model_path = SiluModelPath();
  options.n_threads = 2;
  options.fast_tier = FastTier::kCpu;
  const OpenedModel model(options);
  const MachineRates rates = FixedRates();
  LayerSplits splits = SplitsOf(model);
  for (int64_t& n_hot : splits.n_hot) n_hot = model.config().d_ff / 2;
  PassShape shape{.context_tokens = 16, .n_threads = 2};
  // So slow that the slow tier is all that counts: its weights come once, whatever the rows are.
  shape.slow_bytes_per_s = 1e6;
  const DraftingTimes slow = TimesOfDrafting(model, {}, rates, shape, splits, nullptr, kDepth);
  ASSERT_EQ(slow.verify_ms.size(), static_cast<size_t>(kDepth) + 1);
  EXPECT_EQ(slow.draft_ms, 0);
  EXPECT_LT(slow.verify_ms[7], 1.05 * slow.plain_ms());
  // At the machine's own rates rows add what they were measured to add, and a pass of eight is
  // still far from eight passes.
  shape.slow_bytes_per_s = 0;
  const DraftingTimes own = TimesOfDrafting(model, {}, rates, shape, splits, nullptr, kDepth);
  for (int64_t n = 1; n <= kDepth; ++n) {
    EXPECT_GT(own.verify_ms[static_cast<size_t>(n)], own.verify_ms[static_cast<size_t>(n) - 1]);
  }
  EXPECT_LT(own.verify_ms[7], 4 * own.plain_ms());
}

}  // namespace
}  // namespace thermocline
