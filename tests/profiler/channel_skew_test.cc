#include "profiler/thresholds/channel_skew.h"

#include <gtest/gtest.h>

#include "tests/profiler/profiler_testing.h"
#include "tests/profiler/threshold_models.h"

namespace thermocline {
namespace {

class ChannelSkewTest : public ::testing::Test {
 protected:
  ChannelSkewTest() : engine_(CalibrationOptions(SiluModelPath())) {
    thresholds_ = MeasureThresholds(engine_, {});
  }
  std::vector<ChannelSkew> Measure(std::span<const int32_t> text,
                                   std::span<const int32_t> heldout) {
    return MeasureChannelSkew(engine_, text, heldout, thresholds_);
  }
  Engine engine_;
  ModelThresholds thresholds_;
};

TEST_F(ChannelSkewTest, CountsWhatUniformThresholdsKeep) {
  const std::vector<int32_t> ids = RandomIds(100, 3);
  const auto skews = Measure(ids, ids);
  ASSERT_EQ(skews.size(), kMatrixInputs * std::size(kSkewShares));
  for (const ChannelSkew& skew : skews) {
    EXPECT_NEAR(skew.kept, 1 - skew.share, 0.03) << skew.input;
    double before = 0;
    for (size_t f = 0; f < kHottestFractions.size(); ++f) {
      // Of one text the most often kept channels take at least their number, and no channel can
      // take more than one read of a token. (Fractions are rounded to whole channels.)
      EXPECT_GE(skew.hottest[f], kHottestFractions[f] - 0.02) << skew.input;
      EXPECT_LE(skew.hottest[f], (kHottestFractions[f] + 0.02) / skew.kept) << skew.input;
      EXPECT_GT(skew.hottest[f], before);
      before = skew.hottest[f];
    }
    EXPECT_LE(skew.least, before);
    EXPECT_GE(skew.most, before);
  }
}

TEST_F(ChannelSkewTest, SaysNothingOfTextsThatAreTooShort) {
  const std::vector<int32_t> ids = RandomIds(100, 3);
  EXPECT_TRUE(Measure(ids, std::span(ids).first(2 * kUncutPositions)).empty());
  EXPECT_TRUE(Measure({}, ids).empty());
}

// The channels are ranked by the one text and counted in the other.
TEST_F(ChannelSkewTest, AnotherTextIsCoveredNoBetter) {
  const std::vector<int32_t> ids = RandomIds(100, 3);
  const std::vector<int32_t> others = RandomIds(100, 4);
  const auto own = Measure(others, others);
  const auto of_other = Measure(ids, others);
  ASSERT_EQ(own.size(), of_other.size());
  for (size_t i = 0; i < own.size(); ++i) {
    EXPECT_EQ(own[i].kept, of_other[i].kept);
    for (size_t f = 0; f < kHottestFractions.size(); ++f) {
      EXPECT_GE(own[i].hottest[f], of_other[i].hottest[f]);
    }
  }
}

}  // namespace
}  // namespace thermocline
