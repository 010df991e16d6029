// What drafting is expected to bring: texts whose chains are known, written again by a Speculator,
// and times against those of the parts.
#include "profiler/placement/draft_cost.h"

#include <gtest/gtest.h>

#include <cmath>

#include "profiler/placement/recorded_draft.h"
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

DraftPrediction Predict(const DraftChains& chains, const DraftingTimes& times, int64_t most) {
  return PredictChains(chains, times, {.max_tokens = most}, /*extend=*/false);
}

TEST(DraftCost, AChainThatIsAlwaysRightIsAsLongAsItMayBe) {
  const DraftPrediction p = Predict(Chains(4000, {kDepth}, 1), Times(0.5, 0.1), 7);
  EXPECT_EQ(p.max_drafted, 7);
  EXPECT_DOUBLE_EQ(p.tokens_per_draft, 8);
  EXPECT_EQ(p.n_pauses, 0);
  // Two passes are plain before anything is known of times, and every 64th.
  EXPECT_NEAR(p.n_drafted, 7, 0.2);
  EXPECT_LT(p.n_drafted, 7);
  EXPECT_DOUBLE_EQ(p.n_draft_passes, p.n_drafted);
  EXPECT_NEAR(p.tokens_per_pass, 1 + p.n_drafted, 1e-9);
  EXPECT_NEAR(p.draft_ms, 0.5 * p.n_drafted, 1e-9);
  EXPECT_NEAR(p.verify_ms, 10 + 0.1 * p.n_drafted, 1e-9);
  EXPECT_NEAR(p.ms_per_token(), 14.2 / 8, 0.05);
}

TEST(DraftCost, AChainThatIsNeverRightEndsAtOnce) {
  // A token is computed, and found to be not worth its row; that is judged, too.
  const DraftPrediction p = Predict(Chains(300, {0}, 0.05F), Times(2, 0.5), 7);
  EXPECT_NEAR(p.n_drafted, 0, 0.02);
  EXPECT_LT(p.n_draft_passes, 0.3);
  EXPECT_NEAR(p.tokens_per_pass, 1, 1e-9);
  EXPECT_NEAR(p.ms_per_token(), 10 + 2 * p.n_draft_passes, 0.05);
}

// Of the last text only the first tokens cost something, and what comes behind goes on as without
// drafts.
TEST(DraftCost, PausesWhereDraftsNeverPay) {
  const DraftChains chains = Chains(600, {1}, 0.95F);
  const DraftPrediction p = Predict(chains, Times(12, 1), 7);
  EXPECT_GE(p.n_pauses, 2);
  EXPECT_LT(p.n_draft_passes, 0.2);
  EXPECT_GT(p.ms_per_token(), 10);
  EXPECT_LT(p.ms_per_token(), 11.5);
  // One that goes on whatever comes of it takes longer.
  const DraftPrediction stubborn = PredictChains(
      chains, Times(12, 1), {.max_tokens = 1, .follows_times = false}, /*extend=*/false);
  EXPECT_EQ(stubborn.n_pauses, 0);
  EXPECT_NEAR(stubborn.ms_per_token(), (12 + 11) / 2.0, 0.01);
}

TEST(DraftCost, GoesOnBehindWhatWasAccepted) {
  // Right for three tokens at the positions where a draft begins, which are every fourth, and never
  // at those between.
  const DraftPrediction p = Predict(Chains(400, {3, 0, 0, 0}, 0.9F), Times(0.01, 0.01), 3);
  EXPECT_NEAR(p.tokens_per_pass, 4, 0.3);
}

TEST(DraftCost, KeepsToTheOptions) {
  // As sure as half of the drafts are right, and no draft may be as unsure as that.
  const DraftPrediction p = PredictChains(Chains(400, {kDepth, 0}, 0.5F), Times(0.01, 0.01),
                                          {.max_tokens = 7, .least_chance = 0.95}, false);
  EXPECT_LT(p.n_drafted, 0.1);
  EXPECT_EQ(PredictChains(Chains(400, {kDepth}, 1), Times(0.01, 0.01), {.max_tokens = 100}, false)
                .max_drafted,
            kDepth);
}

// A text that says the same again and again, of which the draft knows one token ahead.
DraftChains RepeatingChains(int64_t n_positions) {
  DraftChains chains = Chains(n_positions, {1}, 0.95F);
  chains.n_prompt = 20;
  for (int64_t i = 0; i < chains.n_prompt + n_positions + kDepth; ++i) {
    chains.ids.push_back(static_cast<int32_t>(100 + i % 10));
  }
  return chains;
}

TEST(DraftCost, ExtensionBringsMoreWhereATextRepeats) {
  const DraftChains chains = RepeatingChains(400);
  const SpeculateOptions options = {.max_tokens = 7};
  const DraftPrediction alone = PredictChains(chains, Times(0.5, 0.1), options, false);
  const DraftPrediction extended = PredictChains(chains, Times(0.5, 0.1), options, true);
  EXPECT_NEAR(alone.tokens_per_draft, 2, 0.01);
  EXPECT_GT(extended.tokens_per_draft, 6);
  EXPECT_GT(extended.tokens_per_pass, 2 * alone.tokens_per_pass);
  EXPECT_LT(extended.ms_per_token(), 0.6 * alone.ms_per_token());
  // What is as good as certain needs no pass of a model.
  EXPECT_LT(extended.n_draft_passes, alone.n_draft_passes);
}

TEST(DraftCost, ExtensionBringsNothingWhereNothingRepeats) {
  DraftChains chains = RepeatingChains(200);
  for (size_t i = 0; i < chains.ids.size(); ++i) chains.ids[i] = static_cast<int32_t>(i);
  const SpeculateOptions options = {.max_tokens = 7};
  const DraftPrediction alone = PredictChains(chains, Times(0.5, 0.1), options, false);
  const DraftPrediction extended = PredictChains(chains, Times(0.5, 0.1), options, true);
  EXPECT_DOUBLE_EQ(extended.tokens_per_pass, alone.tokens_per_pass);
  EXPECT_DOUBLE_EQ(extended.ms_per_token(), alone.ms_per_token());
}

// The texts' own tokens or made-up ones: without extension that is the same.
TEST(DraftCost, TokensThatAreNotKnownAreMadeUp) {
  DraftChains chains = RepeatingChains(200);
  const RecordedTexts known(chains);
  EXPECT_EQ(known.n_prompt(), 20);
  EXPECT_EQ(known.Of(0)[20], 100);
  EXPECT_EQ(known.wrong_token(), 110);
  const DraftPrediction with_ids = Predict(chains, Times(0.5, 0.1), 7);
  chains.ids.clear();
  EXPECT_DOUBLE_EQ(Predict(chains, Times(0.5, 0.1), 7).ms_per_token(), with_ids.ms_per_token());
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
      const auto predictions = PredictDrafting(chains, times, /*extend=*/false);
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

EngineOptions OnTwoTiers() {
  EngineOptions options;
  options.model_path = SiluModelPath();
  options.n_threads = 2;
  options.fast_tier = FastTier::kCpu;
  return options;
}

TEST(DraftCost, WhatAVerifyingPassReads) {
  const OpenedModel model(OnTwoTiers());
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

// Attention and head lie where the file is mapped.
TEST(DraftCost, MappedWeightsAreReadAsFastAsSmallPages) {
  const OpenedModel model(OnTwoTiers());
  const PassShape shape{.context_tokens = 16, .n_threads = 2};
  const auto plain_ms = [&](std::vector<double> mapped_bytes_per_s) {
    MachineRates rates = FixedRates();
    rates.host.mapped_bytes_per_s = std::move(mapped_bytes_per_s);
    return TimesOfDrafting(model, {}, rates, shape, SplitsOf(model), nullptr, 0).plain_ms();
  };
  EXPECT_DOUBLE_EQ(plain_ms({10e9, 20e9, 40e9, 40e9}), plain_ms({}));
  EXPECT_GT(plain_ms({1e9, 2e9, 4e9, 4e9}), 1.5 * plain_ms({}));
}

}  // namespace
}  // namespace thermocline
