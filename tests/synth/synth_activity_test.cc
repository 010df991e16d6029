// The probability model of synthetic models, and the files made of it.
#include "runtime/synth/synth_activity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>
#include <numeric>
#include <string>
#include <vector>

#include "runtime/gguf/gguf_reader.h"
#include "runtime/model/families.h"
#include "runtime/synth/synth.h"
#include "tests/support/message_of.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

using testing::HasSubstr;

double Sum(const std::vector<double>& values, int64_t n) {
  return std::accumulate(values.begin(), values.begin() + n, 0.0);
}

struct LawCase {
  double density, hottest, activations;
  int64_t d_ff;
};

class FiringLawTest : public testing::TestWithParam<LawCase> {};

TEST_P(FiringLawTest, MeetsBothConditionsAndFalls) {
  const LawCase& c = GetParam();
  const ActivityTarget target{c.density, c.hottest, c.activations};
  const std::vector<double> p = FiringProbabilities(target, c.d_ff);
  ASSERT_EQ(p.size(), static_cast<size_t>(c.d_ff));
  const double all = Sum(p, c.d_ff);
  EXPECT_NEAR(all / static_cast<double>(c.d_ff), c.density, 1e-6 * c.density);
  EXPECT_NEAR(Sum(p, HottestNeurons(target, c.d_ff)) / all, c.activations, 1e-6);
  EXPECT_TRUE(std::is_sorted(p.rbegin(), p.rend()));
  EXPECT_LE(p.front(), kMostProbability);
  EXPECT_GT(p.back(), 0);
}

// The first is even, the third nearly a step, the fifth has most neurons at the cap.
INSTANTIATE_TEST_SUITE_P(Laws, FiringLawTest,
                         testing::Values(LawCase{0.3, 0.25, 0.25, 1024},
                                         LawCase{0.1, 0.26, 0.8, 1024},
                                         LawCase{0.02, 0.26, 0.995, 4096},
                                         LawCase{0.005, 0.1, 0.5, 11008},
                                         LawCase{0.9, 0.26, 0.28, 1000}, LawCase{0.5, 0.5, 0.9, 32},
                                         LawCase{0.1, 0.01, 0.09, 131072}));

TEST(FiringLaw, IsAPowerLawBelowTheCap) {
  const std::vector<double> p = FiringProbabilities({0.1, 0.26, 0.8}, 1024);
  const double exponent = std::log(p[511] / p[1023]) / std::numbers::ln2;
  EXPECT_NEAR(std::log(p[255] / p[511]) / std::numbers::ln2, exponent, 1e-9);
  EXPECT_NEAR(std::log(p[127] / p[255]) / std::numbers::ln2, exponent, 1e-9);
}

TEST(FiringLaw, ImpossiblePairsAreErrorsThatSayWhatIsPossible) {
  const auto message = [](double density, double hottest, double activations) {
    return MessageOf([&] { FiringProbabilities({density, hottest, activations}, 1000); });
  };
  EXPECT_THAT(message(0.9, 0.1, 0.9), HasSubstr("the skew 10:90 is not possible at density 0.9"));
  EXPECT_THAT(message(0.9, 0.1, 0.9), HasSubstr("expected 10:10 to 10:11.1, found 10:90"));
  EXPECT_EQ(message(0.9, 0.1, 0.1), "");
  EXPECT_EQ(message(0.9, 0.1, 0.111), "");
  EXPECT_THAT(message(0.1, 0.26, 0.2), HasSubstr("expected 26:26 to 26:99.9, found 26:20"));
  EXPECT_EQ(message(0.1, 0.26, 0.26), "");
  EXPECT_EQ(message(0.1, 0.26, 0.999), "");
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const double density : {0.0, -1.0, 0.995, 7.0, nan}) {
    EXPECT_THAT(message(density, 0.26, 0.8), HasSubstr("the density: expected above 0"));
  }
  for (const double share : {0.0, -1.0, 1.0, nan}) {
    EXPECT_THAT(message(0.1, share, 0.8), HasSubstr("the skew: expected two shares"));
    EXPECT_THAT(message(0.1, 0.26, share), HasSubstr("the skew: expected two shares"));
  }
  EXPECT_THAT(message(0.1, 0.0001, 0.8), HasSubstr("at least one of 1000 neurons"));
}

TEST(NormalQuantile, InvertsTheDistribution) {
  for (const double p : {1e-300, 1e-12, 1e-5, 0.001, 0.02425, 0.1, 0.3, 0.5, 0.7, 0.97, 0.999}) {
    const double x = NormalQuantile(p);
    EXPECT_NEAR(0.5 * std::erfc(-x / std::numbers::sqrt2) / p, 1, 1e-12) << p;
  }
  EXPECT_NEAR(NormalQuantile(0.975), 1.959963984540054, 1e-14);
  EXPECT_DOUBLE_EQ(NormalQuantile(0.25), -NormalQuantile(0.75));
  EXPECT_NEAR(NormalQuantile(0.5), 0, 1e-15);
}

TEST(MomentsOf, AgreeWithSums) {
  for (const Activation activation : {Activation::kRelu, Activation::kReluSqr}) {
    for (const double bias : {-3.0, -0.5, 0.0, 2.5}) {
      double mean = 0;
      double mean_square = 0;
      constexpr double kStep = 1e-3;
      for (double z = -9; z < 9; z += kStep) {
        const double gate = std::max(0.0, z + bias);
        const double h = activation == Activation::kRelu ? gate : gate * gate;
        const double weight = kStep * std::exp(-0.5 * z * z) / std::sqrt(2 * std::numbers::pi);
        mean += weight * h;
        mean_square += weight * h * h;
      }
      const ActivationMoments moments = MomentsOf(activation, bias);
      EXPECT_NEAR(moments.mean, mean, 1e-5 * mean + 1e-9) << bias;
      EXPECT_NEAR(moments.mean_square, mean_square, 1e-5 * mean_square + 1e-9) << bias;
    }
    const ActivationMoments far_out = MomentsOf(activation, -7.1);
    EXPECT_GE(far_out.mean, 0);
    EXPECT_GE(far_out.mean_square, 0);
  }
}

TEST(HotToCold, IsAPermutationOfItsOwnForEveryLayerAndSeed) {
  const std::vector<int32_t> order = HotToCold(1, 0, 500);
  std::vector<int32_t> sorted = order;
  std::sort(sorted.begin(), sorted.end());
  std::vector<int32_t> all(500);
  std::iota(all.begin(), all.end(), 0);
  EXPECT_EQ(sorted, all);
  EXPECT_EQ(order, HotToCold(1, 0, 500));
  EXPECT_NE(order, HotToCold(1, 1, 500));
  EXPECT_NE(order, HotToCold(2, 0, 500));
  // Hot neurons lie anywhere: the mean of a hundred of the numbers 0 to 499 is 250 +- 13.
  const double mean = std::accumulate(order.begin(), order.begin() + 100, 0.0) / 100;
  EXPECT_NEAR(mean, 250, 60);
}

SynthOptions SmallModel() {
  SynthOptions options;
  options.n_layers = 2;
  options.d_model = 64;
  options.d_ff = 96;
  options.n_heads = options.n_kv_heads = 2;
  options.vocab_size = 300;
  options.activation = Activation::kReluSqr;
  options.activity = ActivityTarget{0.2, 0.25, 0.6};
  return options;
}

TEST(SynthModel, WithActivityIsTheSameForAnyNumberOfThreads) {
  const TempDir directory;
  for (const DType dtype : {DType::kF32, DType::kQ4_0}) {
    SynthOptions options = SmallModel();
    options.dtype = dtype;
    WriteSynthModel(directory.file("one.gguf"), options);
    options.n_threads = 3;
    WriteSynthModel(directory.file("three.gguf"), options);
    EXPECT_EQ(ReadWholeFile(directory.file("one.gguf")),
              ReadWholeFile(directory.file("three.gguf")));
    options.seed = 2;
    WriteSynthModel(directory.file("seed.gguf"), options);
    EXPECT_NE(ReadWholeFile(directory.file("one.gguf")),
              ReadWholeFile(directory.file("seed.gguf")));
  }
}

TEST(SynthModel, BiasesAreQuantilesTimesTheNormsOfTheGates) {
  const TempDir directory;
  SynthOptions options = SmallModel();
  options.dtype = DType::kF32;
  WriteSynthModel(directory.file("model.gguf"), options);
  const GgufReader gguf(directory.file("model.gguf"));
  const std::vector<double> wanted = FiringProbabilities(*options.activity, options.d_ff);
  for (int64_t l = 0; l < options.n_layers; ++l) {
    const std::string name = "blk." + std::to_string(l) + ".ffn_gate.";
    const TensorView gate = gguf.RequireMatrix(name + "weight", options.d_ff, options.d_model);
    const TensorView stored = gguf.RequireMatrix(name + "bias", 1, options.d_ff);
    std::vector<float> bias(static_cast<size_t>(options.d_ff));
    std::memcpy(bias.data(), stored.data, bias.size() * sizeof(float));
    const std::vector<int32_t> order = HotToCold(options.seed, l, options.d_ff);
    for (size_t rank = 0; rank < order.size(); ++rank) {
      std::vector<float> row(static_cast<size_t>(options.d_model));
      std::memcpy(row.data(), gate.row(order[rank]), row.size() * sizeof(float));
      double squares = 0;
      for (const float w : row) squares += static_cast<double>(w) * w;
      EXPECT_NEAR(bias[static_cast<size_t>(order[rank])],
                  std::sqrt(squares) * NormalQuantile(wanted[rank]), 1e-5);
    }
  }
}

TEST(SynthModel, WithoutActivityHasNoBiasesAndSiluTakesNone) {
  const TempDir directory;
  SynthOptions options = SmallModel();
  options.activity.reset();
  WriteSynthModel(directory.file("model.gguf"), options);
  EXPECT_EQ(GgufReader(directory.file("model.gguf")).FindTensor("blk.0.ffn_gate.bias"), nullptr);
  options = SmallModel();
  options.activation = Activation::kSilu;
  EXPECT_THAT(MessageOf([&] { WriteSynthModel(directory.file("silu.gguf"), options); }),
              HasSubstr("the density: expected an activation that has true zeros"));
  options = SmallModel();
  options.activity = ActivityTarget{0.9, 0.1, 0.9};
  EXPECT_THAT(MessageOf([&] { WriteSynthModel(directory.file("silu.gguf"), options); }),
              HasSubstr("is not possible"));
  EXPECT_EQ(directory.n_entries(), 1U);
}

TEST(SynthShapes, AllGoTogether) {
  std::string names = ShapeNames() + ", ";
  for (const char* known : {"llama-7b", "llama-13b", "opt-6.7b", "falcon-40b"}) {
    EXPECT_THAT(names, HasSubstr(std::string(known) + ", "));
  }
  while (!names.empty()) {
    const size_t end = names.find(", ");
    SynthOptions options;
    ApplyShape(names.substr(0, end), &options);
    EXPECT_EQ(MessageOf([&] { CheckSynthOptions(options); }), "") << names.substr(0, end);
    names.erase(0, end + 2);
  }
}

}  // namespace
}  // namespace thermocline
