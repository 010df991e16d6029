#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "runtime/gguf/gguf_reader.h"
#include "tests/profiler/profiler_testing.h"
#include "tests/profiler/threshold_models.h"
#include "tests/support/message_of.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

TEST(MagnitudeHistogram, QuantilesAreThoseOfTheValues) {
  std::mt19937 random(3);
  std::lognormal_distribution<float> sizes(-2, 1.5F);
  std::vector<float> values;
  MagnitudeHistogram histogram;
  for (int i = 0; i < 20000; ++i) {
    values.push_back(i % 10 == 0 ? 0.0F : sizes(random));
    histogram.Add(i % 2 == 0 ? values.back() : -values.back());
  }
  std::sort(values.begin(), values.end());
  EXPECT_EQ(histogram.Quantile(0), 0);
  EXPECT_EQ(histogram.Quantile(0.05), 0);
  // Between the last value that is to lie below and the first that is not, and a bin is a 256th of
  // its octave wide.
  for (const double q : {0.11, 0.25, 0.5, 0.9, 0.999}) {
    const auto at = static_cast<size_t>(q * 20000);
    EXPECT_GE(histogram.Quantile(q), values[at - 1] * (1 - 1.0F / 256)) << q;
    EXPECT_LE(histogram.Quantile(q), values[at] * (1 + 1.0F / 256)) << q;
  }
  const MagnitudeHistogram again = MagnitudeHistogram::FromBins(histogram.bins());
  EXPECT_EQ(again.n(), histogram.n());
  EXPECT_EQ(again.Quantile(0.37), histogram.Quantile(0.37));
}

TEST(MagnitudeHistogram, TakesWhatLiesBeyondItsBins) {
  MagnitudeHistogram histogram;
  for (const float x : {1e-30F, 1e30F, INFINITY, NAN}) histogram.Add(x);
  EXPECT_EQ(histogram.n(), 4);
  EXPECT_LT(histogram.Quantile(0.2), 1e-11F);
  EXPECT_GT(histogram.Quantile(0.9), 1e6F);
}

TEST(ThresholdChoice, ReadsMethodsAndShares) {
  const auto plain = ParseThresholdChoice("teal:0.4", false, "silu");
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->method, ThresholdMethod::kTeal);
  EXPECT_EQ(plain->sparsity, 0.4);
  EXPECT_EQ(plain->ffn_mode, SparseMode::kThreshold);
  const auto beside = ParseThresholdChoice("exact+wina:0.25", true, "relu");
  ASSERT_TRUE(beside);
  EXPECT_EQ(beside->method, ThresholdMethod::kWina);
  EXPECT_EQ(beside->ffn_mode, SparseMode::kExact);
  EXPECT_FALSE(ParseThresholdChoice("predicted", true, "relu"));
  for (const char* bad : {"teal:", "teal:0.95", "teal:-0.1", "teal:0.4x", "teal:nan", "neal:0.4",
                          ":0.4", "exact+cats:0.5", "fast+teal:0.4", "teal:0.4+exact"}) {
    EXPECT_THROW(ParseThresholdChoice(bad, true, "relu"), Error) << bad;
  }
  // What has no zeros has no exact mode beside thresholds either.
  EXPECT_THROW(ParseThresholdChoice("exact+teal:0.4", false, "silu"), Error);
}

TEST(ThresholdShares, AreAskedForByWhatWasReached) {
  ModelThresholds thresholds;
  const auto ask = [&](double share) {
    return ShareToAsk(thresholds, ThresholdMethod::kWina, ThresholdSplit::kBlock, share);
  };
  EXPECT_EQ(ask(0.4), 0.4);
  thresholds.reached[1][2] = {0.25F, 0.41F, 0.53F, 0.65F, 0.9F};
  EXPECT_EQ(ask(0), 0);
  EXPECT_NEAR(ask(0.2), 0.2, 1e-6);
  EXPECT_NEAR(ask(0.53), 0.5, 1e-6);
  EXPECT_NEAR(ask(0.59), 0.55, 1e-6);
  EXPECT_NEAR(ask(0.9), 0.8, 1e-6);
  EXPECT_LE(ask(1), kMaxMatrixSparsity);
}

class ThresholdFile : public ::testing::Test {
 protected:
  ThresholdFile() : engine_(CalibrationOptions(SiluModelPath())) {
    thresholds_ = MeasureThresholds(engine_, {}, 2);
    path_ = dir_.file("a.profile.gguf");
  }
  std::string Write(const std::string& fingerprint) {
    WriteThresholdFile(path_, thresholds_, fingerprint);
    return path_;
  }
  ModelThresholds Open() const {
    return OpenThresholds(path_, engine_.config(), "model", {fingerprint()});
  }
  std::string fingerprint() const { return PlacementFingerprint(engine_.model().gguf()); }

  TempDir dir_;
  Engine engine_;
  ModelThresholds thresholds_;
  std::string path_;
};

TEST_F(ThresholdFile, ReadsWhatWasWritten) {
  MatrixShares half;
  half.fill(0.5F);
  for (LayerThresholds& layer : thresholds_.layers) {
    layer.paths[0] = {{}, {.share = 0.5F, .error = 0.1F, .matrices = half}};
  }
  thresholds_.layer_shares[0].assign(kShareTargets * thresholds_.layers.size(), 0.25F);
  thresholds_.best[0] = ThresholdSplit::kLayers;
  Write(fingerprint());
  const ModelThresholds read = Open();
  EXPECT_EQ(read.n_tokens, thresholds_.n_tokens);
  EXPECT_EQ(read.best[0], ThresholdSplit::kLayers);
  EXPECT_FALSE(read.best[1]);
  EXPECT_EQ(read.layer_shares, thresholds_.layer_shares);
  ASSERT_EQ(read.layers.size(), thresholds_.layers.size());
  for (size_t l = 0; l < read.layers.size(); ++l) {
    EXPECT_EQ(read.layers[l].norms, thresholds_.layers[l].norms);
    EXPECT_EQ(read.layers[l].gate_weights, thresholds_.layers[l].gate_weights);
    ASSERT_EQ(read.layers[l].paths[0].size(), 2U);
    EXPECT_EQ(read.layers[l].paths[0][1].matrices, half);
    for (size_t m = 0; m < kMatrices; ++m) {
      for (const auto method : {ThresholdMethod::kTeal, ThresholdMethod::kWina}) {
        EXPECT_EQ(ThresholdFor(read.layers[l], method, m, 0.4),
                  ThresholdFor(thresholds_.layers[l], method, m, 0.4));
      }
    }
  }
}

TEST_F(ThresholdFile, OfAnotherModelIsRefused) {
  Write("0123456789abcdef");
  const std::string message = MessageOf([&] { Open(); });
  EXPECT_NE(message.find("another model"), std::string::npos) << message;
  EXPECT_NE(message.find("0123456789abcdef"), std::string::npos) << message;
  EngineOptions options = CalibrationOptions(SiluModelPath());
  options.sparse = "teal:0.4";
  options.thresholds_path = path_;
  EXPECT_THROW(OpenedModel{options}, Error);
  options.thresholds_path = "";
  EXPECT_NE(MessageOf([&] { OpenedModel{options}; }).find("needs thresholds"), std::string::npos);
}

TEST_F(ThresholdFile, DamagedNumbersAreRefused) {
  const ModelThresholds whole = thresholds_;
  thresholds_.layers[0].norms[0][3] = -1;
  Write(fingerprint());
  EXPECT_THROW(Open(), Error);
  thresholds_ = whole;
  thresholds_.layers[0].gate_weights[0] = NAN;
  Write(fingerprint());
  EXPECT_THROW(Open(), Error);
  thresholds_ = whole;
  thresholds_.layers[0].paths[0] = {{.share = 0.5F}};
  Write(fingerprint());
  EXPECT_THROW(Open(), Error);
  thresholds_ = whole;
  thresholds_.layers[1].norms[2].clear();
  Write(fingerprint());
  EXPECT_THROW(Open(), Error);
}

}  // namespace
}  // namespace thermocline
