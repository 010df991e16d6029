#include "predictor/operating_points.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

namespace thermocline {
namespace {

constexpr double kRecalls[] = {0.5, 0.8, 0.9, 0.95, 0.99};

// Scores that know something about which neurons fire.
struct MadeTokens {
  MadeTokens(int64_t n_tokens, int64_t d_ff, uint32_t seed) : n(n_tokens), m(d_ff) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < n * m; ++i) {
      const float gate = normal(random) - 1.0F + 0.3F * static_cast<float>(i % m % 3);
      scores.push_back(gate + 0.5F * normal(random));
      parts.push_back(gate > 0 ? gate * std::abs(normal(random)) + 1e-6F : 0);
    }
  }
  ScoredTokens view() const { return {n, m, scores.data(), parts.data()}; }

  int64_t n;
  int64_t m;
  std::vector<float> scores;
  std::vector<float> parts;
};

struct Outcome {
  int64_t n_skipped = 0;
  int64_t n_missed = 0;
  int64_t n_active = 0;
  double lost = 0;
};

Outcome OutcomeOf(const ScoredTokens& tokens, const std::vector<float>& thresholds) {
  Outcome out;
  for (int64_t i = 0; i < tokens.n_tokens * tokens.d_ff; ++i) {
    const bool skipped = tokens.scores[i] <= thresholds[static_cast<size_t>(i % tokens.d_ff)];
    const float part = tokens.parts[i];
    out.n_active += part != 0 ? 1 : 0;
    if (!skipped) continue;
    ++out.n_skipped;
    out.n_missed += part != 0 ? 1 : 0;
    out.lost += static_cast<double>(part) * part;
  }
  return out;
}

std::vector<ChosenPoint> Choose(const ScoredTokens& tokens) {
  return ChoosePoints(tokens, FindRaises(tokens, 0, tokens.d_ff), kRecalls);
}

TEST(OperatingPointsTest, WhatIsReportedIsWhatTheThresholdsDo) {
  const MadeTokens made(2000, 12, 1);
  const ScoredTokens tokens = made.view();
  const std::vector<ChosenPoint> points = Choose(tokens);
  ASSERT_EQ(points.size(), std::size(kRecalls));
  for (size_t p = 0; p < points.size(); ++p) {
    const Outcome outcome = OutcomeOf(tokens, points[p].predictor_thresholds);
    const double n_active = static_cast<double>(outcome.n_active);
    EXPECT_DOUBLE_EQ(points[p].recall, 1 - static_cast<double>(outcome.n_missed) / n_active);
    EXPECT_DOUBLE_EQ(points[p].skipped, static_cast<double>(outcome.n_skipped) / (2000 * 12));
    EXPECT_GE(points[p].recall, kRecalls[p]);
    EXPECT_LT(points[p].recall, kRecalls[p] + 0.01);
  }
}

TEST(OperatingPointsTest, PointsAreMonotoneAlsoOnOtherTokens) {
  const MadeTokens made(2000, 12, 1);
  const MadeTokens other(500, 12, 2);
  const std::vector<ChosenPoint> points = Choose(made.view());
  for (size_t p = 1; p < points.size(); ++p) {
    for (size_t i = 0; i < 12; ++i) {
      EXPECT_LE(points[p].predictor_thresholds[i], points[p - 1].predictor_thresholds[i]);
    }
    const Outcome less = OutcomeOf(other.view(), points[p - 1].predictor_thresholds);
    const Outcome more = OutcomeOf(other.view(), points[p].predictor_thresholds);
    EXPECT_LT(more.n_missed, less.n_missed);
    EXPECT_LT(more.n_skipped, less.n_skipped);
  }
}

TEST(OperatingPointsTest, WorkCanBeSplitByNeurons) {
  const MadeTokens made(300, 10, 3);
  const ScoredTokens tokens = made.view();
  NeuronRaises all = FindRaises(tokens, 0, 4);
  const NeuronRaises rest = FindRaises(tokens, 4, 10);
  all.raises.insert(all.raises.end(), rest.raises.begin(), rest.raises.end());
  all.lowest.insert(all.lowest.end(), rest.lowest.begin(), rest.lowest.end());
  const auto split = ChoosePoints(tokens, std::move(all), kRecalls);
  const auto whole = Choose(tokens);
  for (size_t p = 0; p < whole.size(); ++p)
    EXPECT_EQ(split[p].predictor_thresholds, whole[p].predictor_thresholds);
}

// Every combination of thresholds of three neurons over nine tokens is tried: none that skips as
// much loses less.
TEST(OperatingPointsTest, NoOtherThresholdsThatSkipAsMuchLoseLess) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    const MadeTokens made(9, 3, 10 + seed);
    const ScoredTokens tokens = made.view();
    for (const ChosenPoint& point : Choose(tokens)) {
      const Outcome chosen = OutcomeOf(tokens, point.predictor_thresholds);
      std::vector<float> thresholds(3);
      for (int combination = 0; combination < 1000; ++combination) {
        for (int64_t i = 0; i < 3; ++i) {
          const int digit = combination / (i == 0 ? 1 : i == 1 ? 10 : 100) % 10;
          thresholds[static_cast<size_t>(i)] =
              digit == 9 ? -INFINITY : tokens.scores[digit * tokens.d_ff + i];
        }
        const Outcome other = OutcomeOf(tokens, thresholds);
        if (other.n_skipped >= chosen.n_skipped) {
          ASSERT_GE(other.lost, chosen.lost * (1 - 1e-9)) << seed;
        }
      }
    }
  }
}

TEST(OperatingPointsTest, ANeuronThatNeverFiredIsSkippedUpToWhatWasSeenOfIt) {
  MadeTokens made(400, 3, 4);
  float highest = -INFINITY;
  for (int64_t t = 0; t < 400; ++t) {
    made.parts[static_cast<size_t>(t * 3 + 1)] = 0;
    highest = std::max(highest, made.scores[static_cast<size_t>(t * 3 + 1)]);
  }
  for (const ChosenPoint& point : Choose(made.view())) {
    EXPECT_EQ(point.predictor_thresholds[1],
              highest);  // above: nothing is known, so it is computed
  }
}

TEST(OperatingPointsTest, OddInputs) {
  // With nothing active, one token, or all scores equal, points exist and thresholds are finite.
  MadeTokens quiet(50, 2, 5);
  std::fill(quiet.parts.begin(), quiet.parts.end(), 0.0F);
  MadeTokens equal(50, 2, 6);
  std::fill(equal.scores.begin(), equal.scores.end(), 0.25F);
  const MadeTokens one(1, 2, 7);
  for (const MadeTokens* made : std::initializer_list<const MadeTokens*>{&quiet, &equal, &one}) {
    for (const auto& points : {Choose(made->view()), ChooseSharedPoints(made->view(), kRecalls)}) {
      ASSERT_EQ(points.size(), std::size(kRecalls));
      for (const ChosenPoint& point : points) {
        EXPECT_GE(point.recall, 0.5);
        for (const float threshold : point.predictor_thresholds)
          EXPECT_TRUE(std::isfinite(threshold));
      }
    }
  }
}

TEST(OperatingPointsTest, OneThresholdForAll) {
  const MadeTokens made(2000, 6, 8);
  const ScoredTokens tokens = made.view();
  const std::vector<ChosenPoint> points = ChooseSharedPoints(tokens, kRecalls);
  for (size_t p = 0; p < points.size(); ++p) {
    const Outcome outcome = OutcomeOf(tokens, points[p].predictor_thresholds);
    EXPECT_DOUBLE_EQ(points[p].recall, 1 - static_cast<double>(outcome.n_missed) /
                                               static_cast<double>(outcome.n_active));
    EXPECT_GE(points[p].recall, kRecalls[p]);
    EXPECT_LT(points[p].recall, kRecalls[p] + 0.01);
    EXPECT_EQ(points[p].predictor_thresholds,
              std::vector<float>(6, points[p].predictor_thresholds[0]));
  }
}

}  // namespace
}  // namespace thermocline
