// Three tiers of CPU devices: what a third tier (NVMe) will need of loading, the pass and the
// counts is there.
#include "tests/pass/three_tiers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "runtime/core/error.h"
#include "runtime/engine/engine.h"
#include "tests/pass/failing_device.h"

namespace thermocline {
namespace {

std::string ModelFile() {
  return std::string(THERMOCLINE_SOURCE_DIR) + "/tests/golden/gqa_relu.gguf";
}

struct Devices {
  explicit Devices(int n_threads, size_t n = 3) {
    const CpuDeviceLimits limits = ThreeTierModel::Limits(ModelFile(), n_threads);
    for (size_t i = 0; i < n; ++i) {
      own.push_back(std::make_unique<FailingDevice>("tier " + std::to_string(i), limits));
      tiers.push_back(own.back().get());
    }
  }
  std::vector<std::unique_ptr<FailingDevice>> own;
  std::vector<Device*> tiers;
};

std::vector<float> LogitsOf(const TierShares& shares, SparseMode mode, int n_threads = 2) {
  Devices devices(n_threads);
  return ThreeTierModel(ModelFile(), shares, mode, n_threads, devices.tiers).Logits();
}

std::vector<TierShares> SharesTried() { return {{8, 12}, {0, 16}, {16, 0}, {0, 0}, {32, 0}}; }

double Furthest(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    most = std::max(most, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
  }
  return most;
}

TEST(ThreeTiers, AgreeWithOneTierAtEverySplit) {
  const auto one = LogitsOf({32, 0}, SparseMode::kDense);
  for (const TierShares& shares : SharesTried()) {
    // Sums in another order: the same as between one tier and two (tiers_test.cc).
    EXPECT_LE(Furthest(LogitsOf(shares, SparseMode::kDense), one), 5e-3)
        << shares.first << ", " << shares.second;
  }
}

TEST(ThreeTiers, ExactHasTheBitsOfDense) {
  for (const TierShares& shares : SharesTried()) {
    EXPECT_EQ(LogitsOf(shares, SparseMode::kExact), LogitsOf(shares, SparseMode::kDense))
        << shares.first << ", " << shares.second;
  }
}

// Fewer threads than tiers, as many, and more.
TEST(ThreeTiers, ThreadCountChangesNoBit) {
  const auto one = LogitsOf({}, SparseMode::kExact, 1);
  for (const int n_threads : {2, 3, 5}) {
    EXPECT_EQ(LogitsOf({}, SparseMode::kExact, n_threads), one) << n_threads;
  }
}

TEST(ThreeTiers, CountsAreThoseOfOneTier) {
  std::vector<int64_t> expected;
  for (const TierShares& shares : {TierShares{32, 0}, TierShares{8, 12}, TierShares{0, 16}}) {
    Devices devices(2);
    ThreeTierModel model(ModelFile(), shares, SparseMode::kExact, 2, devices.tiers);
    model.Logits();
    const FfnCounts& counts = model.executor().counts();
    EXPECT_EQ(counts.tokens, 9);  // all but the batch of 19
    std::vector<int64_t> active;
    for (const FfnCount& layer : counts.layers) {
      EXPECT_EQ(layer.gates, counts.tokens * model.config().d_ff);
      active.push_back(layer.active);
    }
    if (expected.empty()) expected = active;
    EXPECT_EQ(active, expected) << shares.first;
  }
}

// Each tier but the first has a predictor of its own neurons.
TEST(ThreeTiers, NeuronsOfTheOtherTiersArePredicted) {
  Devices devices(2);
  ThreeTierModel model(ModelFile(), {8, 12}, SparseMode::kPredicted, 2, devices.tiers);
  model.Logits();
  const FfnCount sum = model.executor().counts().Sum();
  const int64_t all =
      model.executor().counts().tokens * model.config().d_ff * model.config().n_layers;
  EXPECT_LT(sum.gates, all);
  EXPECT_GE(sum.gates, all / 4) << "the first tier's neurons are all computed";
}

TEST(ThreeTiers, AFailingTierIsReportedOnceAndTheNextPassWorks) {
  Devices devices(3);
  ThreeTierModel model(ModelFile(), {8, 12}, SparseMode::kExact, 3, devices.tiers);
  const auto expected = model.Logits();
  for (const auto& device : devices.own) {
    device->FailAtCall(1);
    EXPECT_THAT([&] { model.Logits(); }, testing::ThrowsMessage<Error>(device->name() + " failed"));
    EXPECT_EQ(model.Logits(), expected);
  }
}

}  // namespace
}  // namespace thermocline
