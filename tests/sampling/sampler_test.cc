#include "runtime/sampling/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "runtime/core/error.h"
#include "tests/sampling/distributions.h"

namespace thermocline {
namespace {

using ::testing::HasSubstr;

constexpr float kInf = std::numeric_limits<float>::infinity();
const float kNan = std::nanf("");

SamplerOptions Greedy() {
  SamplerOptions options;
  options.temperature = 0;
  return options;
}

TEST(SamplerTest, GreedyTakesTheBestAndOfEqualsTheLowestId) {
  Sampler sampler(Greedy());
  EXPECT_EQ(sampler.Sample(std::vector<float>{1, 3, 2}), 1);
  EXPECT_EQ(sampler.Sample(std::vector<float>{1, 3, 2, 3, 3}), 1);
  EXPECT_EQ(sampler.Sample(std::vector<float>{-5}), 0);
  EXPECT_EQ(sampler.Sample(std::vector<float>{kNan, -kInf, -7, kNan, -8}), 2);
  EXPECT_EQ(sampler.Sample(std::vector<float>{0, kInf}), 0);
}

// One token is found without a list of all, several in one: the first is the same.
TEST(SamplerTest, TheLikeliestIsTheSameAloneAndAmongOthers) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0, 4);
  for (const int n : {1, 2, 15, 16, 17, 1000}) {
    std::vector<float> logits(static_cast<size_t>(n));
    for (float& logit : logits) logit = normal(random);
    if (n > 10) {
      logits[3] = kNan;
      logits[5] = kInf;
      logits[7] = -kInf;
      logits[9] = 50;  // no bias leaves it there
    }
    SamplerOptions options;
    options.logit_bias = {{9, -kInf}, {11, 3}, {n, 1}, {-1, 1}};
    Sampler sampler(options);
    const auto alone = sampler.Likeliest({.all = logits}, nullptr, 1);
    const auto among = sampler.Likeliest({.all = logits}, nullptr, 2);
    ASSERT_EQ(alone.size(), 1U);
    EXPECT_EQ(alone[0].id, among[0].id);
    EXPECT_NE(alone[0].id, 9);
    EXPECT_NEAR(alone[0].probability, among[0].probability, 1e-5);
  }
  Sampler sampler(Greedy());
  EXPECT_EQ(sampler.Likeliest({.all = std::vector<float>{1, 2, 2}}, nullptr)[0].id, 1);
  EXPECT_TRUE(sampler.Likeliest({.all = std::vector<float>{kNan, -kInf}}, nullptr).empty());
}

TEST(SamplerTest, NoFiniteLogitIsAnError) {
  for (const SamplerOptions& options : {Greedy(), Plain()}) {
    Sampler sampler(options);
    EXPECT_THROW(sampler.Sample(std::vector<float>{kNan, -kInf, kInf}), Error);
    EXPECT_THROW(sampler.Sample(std::vector<float>{}), Error);
  }
}

TEST(SamplerTest, DrawsFromTheSoftmax) {
  const std::vector<double> p = {0.4, 0.05, 0.25, 0.2, 0.1};
  const auto counts = DrawMany(Plain(), LogitsOf(p), 20000);
  ExpectDistribution(counts, {{0, p[0]}, {1, p[1]}, {2, p[2]}, {3, p[3]}, {4, p[4]}});
}

TEST(SamplerTest, TokensWithoutAFiniteLogitAreNeverDrawn) {
  const auto counts = DrawMany(Plain(), {kNan, 0, -kInf, 0, kInf}, 5000);
  ExpectDistribution(counts, {{1, 0.5}, {3, 0.5}});
}

TEST(SamplerTest, TemperatureScalesTheLogits) {
  SamplerOptions options = Plain();
  options.temperature = 2;  // square roots: 0.64 -> 0.8, 0.04 -> 0.2 and so on, then normalised
  const auto counts = DrawMany(options, LogitsOf({0.64, 0.04, 0.16, 0.16}), 20000);
  ExpectDistribution(counts, {{0, 0.8 / 1.8}, {1, 0.2 / 1.8}, {2, 0.4 / 1.8}, {3, 0.4 / 1.8}});
}

TEST(SamplerTest, ATinyTemperatureIsGreedy) {
  for (const float temperature : {1e-3F, 1e-30F, std::numeric_limits<float>::denorm_min()}) {
    SamplerOptions options = Plain();
    options.temperature = temperature;
    ExpectDistribution(DrawMany(options, {1, 5, 4.9F, -3e38F, 3}, 200), {{1, 1.0}});
  }
}

TEST(SamplerTest, TopKKeepsTheBestKAndOfEqualsTheLowestIds) {
  SamplerOptions options = Plain();
  options.top_k = 2;
  ExpectDistribution(DrawMany(options, LogitsOf({0.1, 0.45, 0.15, 0.3}), 20000),
                     {{1, 0.6}, {3, 0.4}});
  ExpectDistribution(DrawMany(options, {1, 1, 1, 1}, 5000), {{0, 0.5}, {1, 0.5}});
  options.top_k = 1;
  ExpectDistribution(DrawMany(options, {0, 2, 2}, 100), {{1, 1.0}});
}

TEST(SamplerTest, TopKBeyondTheVocabularyKeepsAll) {
  SamplerOptions options = Plain();
  const std::vector<float> logits = LogitsOf({0.5, 0.25, 0.25});
  for (const int32_t top_k : {0, 3, 4, std::numeric_limits<int32_t>::max()}) {
    options.top_k = top_k;
    ExpectDistribution(DrawMany(options, logits, 5000), {{0, 0.5}, {1, 0.25}, {2, 0.25}});
  }
}

TEST(SamplerTest, TopPKeepsTheSmallestSetThatReachesP) {
  SamplerOptions options = Plain();
  const std::vector<float> logits = LogitsOf({0.1, 0.4, 0.2, 0.3});
  options.top_p = 0.65F;
  ExpectDistribution(DrawMany(options, logits, 20000), {{1, 0.4 / 0.7}, {3, 0.3 / 0.7}});
  options.top_p = 0.75F;
  ExpectDistribution(DrawMany(options, logits, 20000),
                     {{1, 0.4 / 0.9}, {3, 0.3 / 0.9}, {2, 0.2 / 0.9}});
  options.top_p = 0.39F;
  ExpectDistribution(DrawMany(options, logits, 100), {{1, 1.0}});
}

TEST(SamplerTest, ATinyTopPKeepsOne) {
  SamplerOptions options = Plain();
  options.top_p = std::numeric_limits<float>::denorm_min();
  ExpectDistribution(DrawMany(options, {0, 0, 0.5F, 0.5F}, 100), {{2, 1.0}});
}

TEST(SamplerTest, MinPKeepsWhatIsNearTheBest) {
  SamplerOptions options = Plain();
  options.min_p = 0.3F;  // cuts at 0.3 of 0.5, which is 0.15
  ExpectDistribution(DrawMany(options, LogitsOf({0.12, 0.5, 0.18, 0.2}), 20000),
                     {{1, 0.5 / 0.88}, {2, 0.18 / 0.88}, {3, 0.2 / 0.88}});
  options.min_p = 1;
  ExpectDistribution(DrawMany(options, LogitsOf({0.12, 0.5, 0.18, 0.2}), 100), {{1, 1.0}});
}

TEST(SamplerTest, FiltersRunInTheDocumentedOrder) {
  SamplerOptions options = Plain();
  // top-k leaves 0.5, 0.2, 0.15 of which 0.75 is 0.6375: 0.5 and 0.2 reach it. Over all five tokens
  // the same top-p would have needed 0.15 as well.
  const std::vector<float> logits = LogitsOf({0.5, 0.2, 0.15, 0.1, 0.05});
  options.top_k = 3;
  options.top_p = 0.75F;
  ExpectDistribution(DrawMany(options, logits, 20000), {{0, 0.5 / 0.7}, {1, 0.2 / 0.7}});
  // Temperature comes last: at 0.5 the two that top-p left weigh 0.25 and 0.04.
  options.temperature = 0.5F;
  ExpectDistribution(DrawMany(options, logits, 20000), {{0, 0.25 / 0.29}, {1, 0.04 / 0.29}});
  // Before top-p, the squares 0.25 0.04 0.0225 give the first one 0.8.
  options.steps = {SamplerStep::kTopK, SamplerStep::kTemperature, SamplerStep::kTopP};
  ExpectDistribution(DrawMany(options, logits, 100), {{0, 1.0}});
  // min-p follows top-p: it measures against the best one that is left.
  options = Plain();
  options.top_k = 4;
  options.top_p = 0.9F;
  options.min_p = 0.35F;
  ExpectDistribution(DrawMany(options, logits, 20000), {{0, 0.5 / 0.7}, {1, 0.2 / 0.7}});
}

TEST(SamplerTest, PenaltyDividesPositiveAndMultipliesNegativeLogits) {
  SamplerOptions options = Greedy();
  options.repeat_penalty = 2;
  Sampler sampler(options);
  const std::vector<float> positive = {3, 5, 2};
  const std::vector<float> negative = {-3, -2, -5};
  EXPECT_EQ(sampler.Sample(positive), 1);
  sampler.Accept(1);
  EXPECT_EQ(sampler.Sample(positive), 0);  // 3, 2.5, 2
  EXPECT_EQ(sampler.Sample(negative), 0);  // -3, -4, -5
  sampler.Accept(1);                       // twice in the window is penalised once
  EXPECT_EQ(sampler.Sample(std::vector<float>{1.2F, 2.5F, 1}), 1);  // 1.2, 1.25, 1
  options.temperature = 1;
  options.top_k = 0;
  options.top_p = 1;
  options.min_p = 0;
  const auto ln2 = static_cast<float>(std::log(2.0));
  ExpectDistribution(DrawMany(options, {2 * ln2, 0, ln2}, 20000, {0}),
                     {{0, 0.4}, {1, 0.2}, {2, 0.4}});
}

TEST(SamplerTest, PenaltyLooksBackAsFarAsAsked) {
  const std::vector<float> logits = {10, 9, 8, 7};
  const auto pick = [&logits](int32_t last_n, const std::vector<int32_t>& history) {
    SamplerOptions options = Greedy();
    options.repeat_penalty = 100;
    options.repeat_last_n = last_n;
    Sampler sampler(options);
    for (const int32_t id : history) sampler.Accept(id);
    return sampler.Sample(logits);
  };
  EXPECT_EQ(pick(0, {0, 1, 2}), 0);
  EXPECT_EQ(pick(1, {0, 1, 2}), 0);
  EXPECT_EQ(pick(2, {2, 1, 0}), 2);
  EXPECT_EQ(pick(3, {0, 1, 2}), 3);
  EXPECT_EQ(pick(3, {0, 1, 2, 3, 3}), 0);
  EXPECT_EQ(pick(3, {0, 0, 1, 1, 3, 0, 3}), 2 - 1);
  EXPECT_EQ(pick(-1, std::vector<int32_t>(1000, 0)), 1);
  EXPECT_EQ(pick(64, {0, 1000000}), 1);  // an id beyond the logits is no one's business
}

TEST(SamplerTest, SameSeedSameTokens) {
  const auto draw = [](uint64_t seed) {
    SamplerOptions options;
    options.seed = seed;
    Sampler sampler(options);
    std::vector<float> logits(5000);
    std::vector<int32_t> ids;
    for (int step = 0; step < 200; ++step) {
      for (size_t i = 0; i < logits.size(); ++i) {
        logits[i] = static_cast<float>((i * 7919 + static_cast<size_t>(step) * 31) % 1009) * 0.02F;
      }
      ids.push_back(sampler.Sample(logits));
      sampler.Accept(ids.back());
    }
    return ids;
  };
  EXPECT_EQ(draw(42), draw(42));
  EXPECT_NE(draw(42), draw(43));
  EXPECT_NE(draw(0), draw(1));
}

// xoshiro256** is seeded by splitmix64(0), and its words were computed apart from this project. The
// top 53 bits of each word pick one of 2^k equal tokens, and those are its top k bits.
TEST(SamplerTest, TheGeneratorIsTheDocumentedOne) {
  const std::vector<float> logits(256, 0.0F);
  Sampler sampler(Plain());
  for (const int32_t expected : {0x99, 0xbf, 0x1a, 0x6a, 0xbb, 0xff}) {
    EXPECT_EQ(sampler.Sample(logits), expected);
  }
}

TEST(SamplerTest, AnyMixOfFiltersKeepsTheSetAFullSortWouldKeep) {
  uint64_t state = 99;
  const auto next = [&state]() {
    return (state = state * 6364136223846793005U + 1442695040888963407U) >> 33;
  };
  for (int round = 0; round < 60; ++round) {
    std::vector<float> logits(1 + next() % 40);
    for (float& logit : logits) logit = static_cast<float>(next() % 50) * 0.1F;
    SamplerOptions options;
    options.temperature = 0.5F + static_cast<float>(next() % 10) * 0.2F;
    options.top_k = static_cast<int32_t>(next() % 20);
    options.top_p = static_cast<float>(1 + next() % 100) / 100.5F;
    options.min_p = static_cast<float>(next() % 5) * 0.1F;
    options.steps = {SamplerStep::kTopK, SamplerStep::kTemperature, SamplerStep::kTopP,
                     SamplerStep::kMinP};
    std::vector<std::pair<double, int32_t>> sorted;  // weight, id
    for (size_t i = 0; i < logits.size(); ++i) {
      sorted.emplace_back(-logits[i], static_cast<int32_t>(i));
    }
    std::sort(sorted.begin(), sorted.end());
    if (options.top_k > 0) sorted.resize(std::min<size_t>(sorted.size(), options.top_k));
    double total = 0;
    const double best = sorted[0].first;
    for (auto& [w, id] : sorted) total += w = std::exp((best - w) / options.temperature);
    std::map<int32_t, double> kept;
    double before = 0;
    double kept_total = 0;
    for (const auto& [w, id] : sorted) {
      if (before >= options.top_p * total) break;
      before += w;
      if (w < options.min_p) continue;
      kept[id] = w;
      kept_total += w;
    }
    for (auto& [id, w] : kept) w /= kept_total;
    ExpectDistribution(DrawMany(options, logits, 3000), kept);
  }
}

std::string ErrorOf(void (*change)(SamplerOptions*)) {
  SamplerOptions options;
  change(&options);
  try {
    Validate(options);
  } catch (const Error& e) {
    EXPECT_THROW(Sampler{options}, Error);
    return e.what();
  }
  return "no error";
}

// The best few logits come in some order, from logits with ties, infinities and NaN.
TEST(SamplerTest, TheDecidingLogitsGiveTheSameTokensAsAll) {
  std::mt19937 random(3);
  const auto pick = [&](auto... values) {
    const std::vector all = {values...};
    return all[random() % all.size()];
  };
  for (int round = 0; round < 400; ++round) {
    SamplerOptions options;
    options.temperature = pick(0.0F, 0.5F, 1.5F);
    options.top_k = pick(1, 3, 20, 60);
    options.top_p = pick(0.6F, 1.0F);
    options.min_p = pick(0.0F, 0.2F);
    options.repeat_penalty = pick(1.0F, 1.5F, 1e38F);
    options.repeat_last_n = pick(0, 4, 30);
    options.seed = random();
    std::vector<float> logits(50);
    for (float& logit : logits) {
      logit = static_cast<float>(random() % 12) - 5;
      if (random() % 8 == 0) logit = pick(kInf, -kInf, kNan, -0.0F, -3e38F);
    }
    Sampler from_all(options);
    Sampler from_best(options);
    std::vector<TokenLogit> best;
    for (size_t i = 0; i < logits.size(); ++i) {
      if (std::isfinite(logits[i])) best.push_back({static_cast<int32_t>(i), logits[i]});
    }
    std::ranges::stable_sort(best, std::ranges::greater(), &TokenLogit::logit);
    const int64_t n_deciding = from_all.n_deciding();
    ASSERT_GT(n_deciding, 0);
    if (best.size() > static_cast<size_t>(n_deciding)) best.resize(static_cast<size_t>(n_deciding));
    std::ranges::shuffle(best, random);
    for (int i = 0; i < 10; ++i) {
      const int32_t id = from_all.Sample(logits);
      ASSERT_EQ(from_best.SampleBest(best, n_deciding), id) << "round " << round << ", token " << i;
      from_all.Accept(id);
      from_best.Accept(id);
    }
  }
}

TEST(SamplerTest, AllLogitsDecideWhereNothingBoundsThem) {
  SamplerOptions options;
  options.repeat_last_n = 10;
  EXPECT_EQ(Sampler(options).n_deciding(), options.top_k + 1);
  options.repeat_penalty = 1.1F;
  EXPECT_EQ(Sampler(options).n_deciding(), options.top_k + 1 + 10);
  options.repeat_penalty = 0.9F;  // raises what it looks back to
  EXPECT_EQ(Sampler(options).n_deciding(), 0);
  options.repeat_penalty = 1.1F;
  options.repeat_last_n = -1;
  EXPECT_EQ(Sampler(options).n_deciding(), 0);
  EXPECT_EQ(Sampler(Plain()).n_deciding(), 0);
  EXPECT_EQ(Sampler(Greedy()).n_deciding(), 1);
}

TEST(SamplerTest, OptionErrorsNameTheSetting) {
  using O = SamplerOptions;
  EXPECT_EQ(ErrorOf([](O* o) { o->top_p = 1.5F; }),
            "top-p: expected a number in (0, 1], found 1.5");
  EXPECT_THAT(ErrorOf([](O* o) { o->top_p = 0; }), HasSubstr("top-p"));
  EXPECT_THAT(ErrorOf([](O* o) { o->top_p = kNan; }), HasSubstr("top-p"));
  EXPECT_EQ(ErrorOf([](O* o) { o->temperature = -1; }),
            "the temperature: expected a number of at least 0, found -1");
  EXPECT_THAT(ErrorOf([](O* o) { o->temperature = kNan; }), HasSubstr("the temperature"));
  EXPECT_THAT(ErrorOf([](O* o) { o->temperature = kInf; }), HasSubstr("the temperature"));
  EXPECT_EQ(ErrorOf([](O* o) { o->top_k = -3; }),
            "top-k: expected a whole number of at least 0, found -3");
  EXPECT_EQ(ErrorOf([](O* o) { o->min_p = 1.25F; }),
            "min-p: expected a number in [0, 1], found 1.25");
  EXPECT_THAT(ErrorOf([](O* o) { o->min_p = -0.1F; }), HasSubstr("min-p"));
  EXPECT_EQ(ErrorOf([](O* o) { o->repeat_penalty = 0; }),
            "the repeat penalty: expected a number above 0, found 0");
  EXPECT_THAT(ErrorOf([](O* o) { o->repeat_penalty = kInf; }), HasSubstr("the repeat penalty"));
  EXPECT_EQ(ErrorOf([](O* o) { o->repeat_last_n = -2; }),
            "the number of recent tokens: expected a whole number of at least -1, found -2");
  EXPECT_EQ(ErrorOf([](O*) {}), "no error");
}

}  // namespace
}  // namespace thermocline
