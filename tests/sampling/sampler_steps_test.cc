// Each step against its published definition, computed here in the plainest way.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>
#include <string>
#include <vector>

#include "runtime/core/error.h"
#include "tests/sampling/distributions.h"

namespace thermocline {
namespace {

const std::vector<double> kTokens = {0.02, 0.31, 0.05, 0.17, 0.22, 0.08, 0.11, 0.04};

std::map<int32_t, double> Only(const std::vector<double>& p, const std::vector<int32_t>& ids) {
  double total = 0;
  for (const int32_t id : ids) total += p[static_cast<size_t>(id)];
  std::map<int32_t, double> kept;
  for (const int32_t id : ids) kept[id] = p[static_cast<size_t>(id)] / total;
  return kept;
}

double EntropyOf(const std::vector<double>& p) {
  double entropy = 0;
  for (const double x : p) entropy -= x * std::log(x);
  return entropy;
}

// arXiv:2202.00666, algorithm of section 4: ascending |H + log p|, up to a mass of tau.
TEST(SamplerSteps, TypicalKeepsWhatIsAsSurprisingAsExpected) {
  for (const double tau : {0.15, 0.45, 0.93}) {
    const double entropy = EntropyOf(kTokens);
    std::vector<int32_t> order = {0, 1, 2, 3, 4, 5, 6, 7};
    std::ranges::sort(order, {}, [&](int32_t id) {
      return std::abs(entropy + std::log(kTokens[static_cast<size_t>(id)]));
    });
    double sum = 0;
    std::vector<int32_t> kept;
    for (const int32_t id : order) {
      kept.push_back(id);
      sum += kTokens[static_cast<size_t>(id)];
      if (sum > tau) break;
    }
    SamplerOptions options = Plain();
    options.typical_p = static_cast<float>(tau);
    ExpectDistribution(DrawMany(options, LogitsOf(kTokens), 20000), Only(kTokens, kept));
  }
}

// arXiv:2411.07641: logits of at least max - n * sigma.
TEST(SamplerSteps, TopNSigmaCutsByTheLogits) {
  const std::vector<float> logits = LogitsOf(kTokens);
  double mean = 0;
  for (const float logit : logits) mean += logit / 8.0;
  double variance = 0;
  for (const float logit : logits) variance += (logit - mean) * (logit - mean) / 8.0;
  for (const float n : {0.5F, 1.0F, 2.0F}) {
    std::vector<int32_t> kept;
    for (int32_t id = 0; id < 8; ++id) {
      const double least = std::log(0.31) - n * std::sqrt(variance);
      if (logits[static_cast<size_t>(id)] >= least) kept.push_back(id);
    }
    SamplerOptions options = Plain();
    options.top_n_sigma = n;
    ExpectDistribution(DrawMany(options, logits, 20000), Only(kTokens, kept));
    // Of the same tokens, whatever the temperature before it.
    options.temperature = 1.7F;
    options.steps = {SamplerStep::kTemperature, SamplerStep::kTopNSigma};
    EXPECT_EQ(DrawMany(options, logits, 5000).size(), kept.size());
  }
}

// With its probability, all of at least the threshold but the least likely of these are gone.
TEST(SamplerSteps, XtcExcludesTopChoicesNowAndThen) {
  SamplerOptions options = Plain();
  options.xtc_probability = 0.4F;
  options.xtc_threshold = 0.1F;  // 1, 3, 4 and 6 reach it; 6 stays
  std::map<int32_t, double> expected;
  const auto without = Only(kTokens, {0, 2, 5, 6, 7});
  for (int32_t id = 0; id < 8; ++id) {
    expected[id] = 0.6 * kTokens[static_cast<size_t>(id)];
    if (without.contains(id)) expected[id] += 0.4 * without.at(id);
  }
  ExpectDistribution(DrawMany(options, LogitsOf(kTokens), 40000), expected);
  options.xtc_probability = 1;
  ExpectDistribution(DrawMany(options, LogitsOf(kTokens), 20000), without);
  // One choice alone is no top choices.
  options.xtc_threshold = 0.3F;
  ExpectDistribution(DrawMany(options, LogitsOf(kTokens), 20000),
                     Only(kTokens, {0, 1, 2, 3, 4, 5, 6, 7}));
  // Five tokens are left, and six must be.
  options.xtc_threshold = 0.1F;
  options.min_keep = 6;
  EXPECT_EQ(DrawMany(options, LogitsOf(kTokens), 5000).size(), 8U);
}

TEST(SamplerSteps, DynamicTemperatureFollowsTheEntropy) {
  for (const float exponent : {1.0F, 2.0F}) {
    SamplerOptions options = Plain();
    options.temperature = 1;
    options.dynatemp_range = 0.7F;
    options.dynatemp_exponent = exponent;
    const double share = std::pow(EntropyOf(kTokens) / std::log(8.0), exponent);
    const double temperature = 0.3 + 1.4 * share;
    std::vector<double> heated;
    double total = 0;
    for (const double p : kTokens) {
      heated.push_back(std::pow(p, 1 / temperature));
      total += heated.back();
    }
    std::map<int32_t, double> expected;
    for (int32_t id = 0; id < 8; ++id) expected[id] = heated[static_cast<size_t>(id)] / total;
    ExpectDistribution(DrawMany(options, LogitsOf(kTokens), 20000), expected);
  }
  // Never below 0, where the best one is all that is left.
  SamplerOptions options = Plain();
  options.temperature = 0.1F;
  options.dynatemp_range = 5;
  options.dynatemp_exponent = 30;
  ExpectDistribution(DrawMany(options, LogitsOf({0.01, 0.98, 0.01}), 100), {{1, 1.0}});
}

TEST(SamplerSteps, MinKeepIsWhatTheyLeaveAtLeast) {
  const auto kept = [](auto change) {
    SamplerOptions options = Plain();
    options.min_keep = 3;
    change(&options);
    std::vector<int32_t> ids;
    for (const auto& [id, n] : DrawMany(options, LogitsOf(kTokens), 3000)) ids.push_back(id);
    return ids;
  };
  const std::vector<int32_t> best = {1, 3, 4};
  EXPECT_EQ(kept([](SamplerOptions* o) { o->top_p = 0.01F; }), best);
  EXPECT_EQ(kept([](SamplerOptions* o) { o->min_p = 1; }), best);
  EXPECT_EQ(kept([](SamplerOptions* o) { o->top_k = 1; }), best);
  EXPECT_EQ(kept([](SamplerOptions* o) { o->typical_p = 0.01F; }).size(), 3U);
}

// arXiv:2007.14966, in its second version: what surprises more than mu bits is cut, and mu moves by
// eta times the error.
TEST(SamplerSteps, Mirostat2CutsAtASurpriseThatItLearns) {
  SamplerOptions options = Plain();
  options.mirostat = 2;
  options.mirostat_tau = 1.5F;
  options.mirostat_eta = 0.3F;
  Sampler sampler(options);
  double mu = 3;
  for (int i = 0; i < 300; ++i) {
    std::vector<double> kept(kTokens);
    double total = 0;
    for (double& p : kept) {
      if (-std::log2(p) > mu && p != 0.31) p = 0;
      total += p;
    }
    const int32_t id = sampler.Sample(LogitsOf(kTokens));
    const double p = kept[static_cast<size_t>(id)];
    ASSERT_GT(p, 0) << "token " << i;
    mu -= 0.3 * (-std::log2(p / total) - 1.5);
  }
}

// Both versions end near the surprise that is asked for, where the text's own is above.
TEST(SamplerSteps, MirostatReachesItsTarget) {
  std::vector<double> zipf;
  double total = 0;
  for (int i = 1; i <= 4000; ++i) {
    zipf.push_back(1.0 / std::pow(i, 1.1));
    total += zipf.back();
  }
  for (double& p : zipf) p /= total;
  const std::vector<float> logits = LogitsOf(zipf);
  for (const int32_t version : {1, 2}) {
    for (const float tau : {2.0F, 4.0F}) {
      SamplerOptions options = Plain();
      options.mirostat = version;
      options.mirostat_tau = tau;
      Sampler sampler(options);
      double bits = 0;
      constexpr int kFirst = 300;
      constexpr int kAll = 1500;
      for (int i = 0; i < kAll; ++i) {
        const int32_t id = sampler.Sample(logits);
        const double p = sampler.LastChanceOf(id);
        if (i >= kFirst) bits -= std::log2(p) / (kAll - kFirst);
      }
      EXPECT_NEAR(bits, static_cast<double>(tau), 0.25) << "version " << version;
    }
  }
}

TEST(SamplerSteps, ChancesAreThoseOfTheDraw) {
  SamplerOptions options = Plain();
  options.top_k = 3;
  Sampler sampler(options);
  const int32_t id = sampler.Sample(LogitsOf(kTokens));
  const std::vector<TokenChance> chances = sampler.LastChances(10);
  ASSERT_EQ(chances.size(), 3U);
  EXPECT_EQ(chances[0].id, 1);
  EXPECT_EQ(chances[1].id, 4);
  EXPECT_EQ(chances[2].id, 3);
  EXPECT_NEAR(chances[0].probability, 0.31 / 0.7, 1e-6);
  EXPECT_NEAR(chances[1].probability, 0.22 / 0.7, 1e-6);
  EXPECT_EQ(sampler.LastChances(1).size(), 1U);
  const auto found = std::ranges::find(chances, id, &TokenChance::id);
  ASSERT_NE(found, chances.end());
  EXPECT_DOUBLE_EQ(sampler.LastChanceOf(id), found->probability);
  options.temperature = 0;
  Sampler greedy(options);
  EXPECT_EQ(greedy.Sample(LogitsOf(kTokens)), 1);
  EXPECT_EQ(greedy.LastChances(10).size(), 1U);
  EXPECT_EQ(greedy.LastChanceOf(1), 1);
}

TEST(SamplerSteps, StepsHaveNamesAndLetters) {
  for (const SamplerStep step : DefaultSamplerSteps()) {
    EXPECT_EQ(SamplerStepOf(SamplerStepName(step)), step);
  }
  EXPECT_EQ(SamplerStepOf("typical_p"), SamplerStep::kTypicalP);
  EXPECT_EQ(SamplerStepOf("top_q"), std::nullopt);
  std::vector<SamplerStep> by_letter;
  for (const char letter : std::string("edskypmxt")) by_letter.push_back(*SamplerStepOf(letter));
  EXPECT_EQ(by_letter, DefaultSamplerSteps());
  EXPECT_EQ(SamplerStepOf('q'), std::nullopt);
}

TEST(SamplerSteps, WhatIsNotListedDoesNotRun) {
  SamplerOptions options;  // with top-k, top-p and min-p
  options.steps = {};
  ExpectDistribution(DrawMany(options, LogitsOf(kTokens), 20000),
                     Only(kTokens, {0, 1, 2, 3, 4, 5, 6, 7}));
}

std::string StepErrorOf(void (*change)(SamplerOptions*)) {
  SamplerOptions options;
  change(&options);
  try {
    Validate(options);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(SamplerSteps, ErrorsNameTheSetting) {
  using O = SamplerOptions;
  using ::testing::HasSubstr;
  EXPECT_THAT(StepErrorOf([](O* o) { o->typical_p = 0; }), HasSubstr("typical-p"));
  EXPECT_THAT(StepErrorOf([](O* o) { o->top_n_sigma = NAN; }), HasSubstr("top-n-sigma"));
  EXPECT_THAT(StepErrorOf([](O* o) { o->xtc_probability = 2; }), HasSubstr("the XTC probability"));
  EXPECT_THAT(StepErrorOf([](O* o) { o->xtc_threshold = -1; }), HasSubstr("the XTC threshold"));
  EXPECT_THAT(StepErrorOf([](O* o) { o->dynatemp_range = -1; }),
              HasSubstr("the range of the dynamic"));
  EXPECT_THAT(StepErrorOf([](O* o) { o->dynatemp_exponent = INFINITY; }),
              HasSubstr("the exponent"));
  EXPECT_THAT(StepErrorOf([](O* o) { o->dry_multiplier = -1; }), HasSubstr("the DRY multiplier"));
  EXPECT_THAT(StepErrorOf([](O* o) { o->dry_base = 0.5F; }), HasSubstr("the DRY base"));
  EXPECT_THAT(StepErrorOf([](O* o) { o->dry_last_n = -2; }), HasSubstr("that DRY looks at"));
  EXPECT_THAT(StepErrorOf([](O* o) { o->presence_penalty = NAN; }),
              HasSubstr("the presence penalty"));
  EXPECT_THAT(StepErrorOf([](O* o) { o->frequency_penalty = NAN; }), HasSubstr("the frequency"));
  EXPECT_THAT(StepErrorOf([](O* o) { o->mirostat = 3; }), HasSubstr("mirostat's version"));
  EXPECT_THAT(StepErrorOf([](O* o) { o->mirostat_tau = -1; }), HasSubstr("mirostat's target"));
  EXPECT_THAT(StepErrorOf([](O* o) { o->mirostat_eta = 2; }), HasSubstr("mirostat's rate"));
  EXPECT_THAT(StepErrorOf([](O* o) { o->min_keep = -1; }), HasSubstr("tokens to keep"));
  EXPECT_THAT(StepErrorOf([](O* o) {
                o->logit_bias = {{3, NAN}};
              }),
              HasSubstr("the bias of a token"));
  EXPECT_THAT(StepErrorOf([](O* o) { o->logit_bias = {{3, INFINITY}}; }), HasSubstr("the bias"));
  EXPECT_THAT(StepErrorOf([](O* o) {
                o->steps = {SamplerStep::kMinP, SamplerStep::kMinP};
              }),
              HasSubstr("each sampler once, found min_p"));
}

}  // namespace
}  // namespace thermocline
