#include "predictor/mlp_trainer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace thermocline {
namespace {

constexpr int64_t kModel = 12;
constexpr int64_t kNeurons = 20;
constexpr int64_t kTokens = 2000;
constexpr int64_t kRank = 8;

struct Made {
  MlpSamples samples;
  LowRank half;
};

// Makes neurons that fire where the size of one of two directions is large, which no linear score
// tells.
Made MakeSamples() {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  Made made;
  made.samples.active.assign(static_cast<size_t>(kTokens * ((kNeurons + 7) / 8)), 0);
  for (int64_t t = 0; t < kTokens; ++t) {
    for (int64_t c = 0; c < kModel; ++c) made.samples.x.push_back(normal(random));
    const float* x = made.samples.x.data() + t * kModel;
    for (int64_t i = 0; i < kNeurons; ++i) {
      if (std::abs(x[i % 2]) < 1.2F) continue;
      made.samples.active[static_cast<size_t>(t * 3 + i / 8)] |=
          static_cast<uint8_t>(1U << (i % 8));
    }
  }
  for (int64_t i = 0; i < kRank / 2 * kModel; ++i) made.half.in_proj.push_back(normal(random));
  for (int64_t i = 0; i < kNeurons * kRank / 2; ++i) made.half.out_proj.push_back(normal(random));
  return made;
}

float ScoreOf(const LowRank& weights, const float* x, int64_t neuron) {
  float score = 0;
  for (int64_t r = 0; r < kRank; ++r) {
    float z = 0;
    for (int64_t c = 0; c < kModel; ++c) {
      z += weights.in_proj[static_cast<size_t>(r * kModel + c)] * x[c];
    }
    score += std::max(z, 0.0F) * weights.out_proj[static_cast<size_t>(neuron * kRank + r)];
  }
  return score;
}

// Returns how often an active token's score lies above an inactive one's: 0.5 by chance, 1 at best.
double Ranking(const LowRank& weights, const MlpSamples& samples, int64_t neuron) {
  int64_t n_above = 0;
  int64_t n_pairs = 0;
  for (int64_t a = 0; a + 1 < kTokens; ++a) {
    const auto fires = [&](int64_t t) {
      return (samples.active[static_cast<size_t>(t * 3 + neuron / 8)] >> (neuron % 8) & 1) != 0;
    };
    if (fires(a) == fires(a + 1)) continue;
    const int64_t on = fires(a) ? a : a + 1;
    const int64_t off = fires(a) ? a + 1 : a;
    ++n_pairs;
    n_above += ScoreOf(weights, samples.x.data() + on * kModel, neuron) >
                       ScoreOf(weights, samples.x.data() + off * kModel, neuron)
                   ? 1
                   : 0;
  }
  return static_cast<double>(n_above) / static_cast<double>(n_pairs);
}

LowRank TrainFor(int n_epochs, int n_lanes, const Made& made) {
  MlpTrainer trainer(kModel, kNeurons, made.half,
                     {.rank = kRank, .seed = 5, .batch = 128, .learning_rate = 0.03F});
  trainer.Begin(made.samples, n_lanes);
  for (int epoch = 0; epoch < n_epochs; ++epoch) {
    trainer.Shuffle();
    for (int64_t batch = 0; batch < trainer.n_batches(); ++batch) {
      for (int lane = 0; lane < n_lanes; ++lane) trainer.AddGradient(batch, lane);
      trainer.Step(static_cast<double>(epoch) / n_epochs);
    }
  }
  return trainer.weights();
}

TEST(MlpTrainerTest, LearnsWhatNoLinearScoreTells) {
  const Made made = MakeSamples();
  const LowRank trained = TrainFor(20, 1, made);
  for (const int64_t neuron : {0, 1, 7, 19}) {
    EXPECT_GT(Ranking(trained, made.samples, neuron), 0.9) << neuron;
  }
}

TEST(MlpTrainerTest, StartsAsThePlainProduct) {
  const Made made = MakeSamples();
  const LowRank start = TrainFor(0, 1, made);
  // The weights agree up to the jitter that makes the halves of a pair part.
  double difference = 0;
  double size = 0;
  for (int64_t t = 0; t < 50; ++t) {
    const float* x = made.samples.x.data() + t * kModel;
    for (int64_t i = 0; i < kNeurons; ++i) {
      double plain = 0;
      for (int64_t r = 0; r < kRank / 2; ++r) {
        double z = 0;
        for (int64_t c = 0; c < kModel; ++c) {
          z += made.half.in_proj[static_cast<size_t>(r * kModel + c)] * x[c];
        }
        plain += z * made.half.out_proj[static_cast<size_t>(i * kRank / 2 + r)];
      }
      difference += std::pow(plain - ScoreOf(start, x, i), 2);
      size += plain * plain;
    }
  }
  EXPECT_LT(difference, 0.1 * size);
}

TEST(MlpTrainerTest, TheSameAgainAndNearlyTheSameWithMoreLanes) {
  const Made made = MakeSamples();
  const LowRank once = TrainFor(1, 1, made);
  EXPECT_EQ(TrainFor(1, 1, made).in_proj, once.in_proj);
  const LowRank split = TrainFor(1, 3, made);
  for (size_t i = 0; i < once.in_proj.size(); ++i) {
    EXPECT_NEAR(split.in_proj[i], once.in_proj[i], 0.02);
  }
}

}  // namespace
}  // namespace thermocline
