// Buckets of distances, 32 up to a distance of 128 as T5 has them, and the table by distance.
#include "runtime/model/relative_bias.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace thermocline {
namespace {

using testing::ElementsAre;

std::vector<int64_t> Buckets(const RelativeConfig& config, bool both_ways,
                             const std::vector<int64_t>& distances) {
  std::vector<int64_t> buckets;
  for (const int64_t d : distances) buckets.push_back(RelativeBucket(config, both_ways, d));
  return buckets;
}

TEST(RelativeBias, ADecodersBucketsAreOfKeysBeforeTheQuery) {
  const RelativeConfig t5 = {32, 128};
  EXPECT_THAT(Buckets(t5, false, {0, -1, -15, -16, -18, -19, -31, -32, -63, -64, -127, -128, -999}),
              ElementsAre(0, 1, 15, 16, 16, 17, 21, 21, 26, 26, 31, 31, 31));
  EXPECT_THAT(Buckets(t5, false, {1, 7, 500}), ElementsAre(0, 0, 0));
}

TEST(RelativeBias, AnEncodersBucketsAreOfBothSides) {
  const RelativeConfig t5 = {32, 128};
  EXPECT_THAT(Buckets(t5, true, {0, -1, -7, -8, -11, -12, -15, -16, -32, -64, -127, -128, -999}),
              ElementsAre(0, 1, 7, 8, 8, 9, 9, 10, 12, 14, 15, 15, 15));
  EXPECT_THAT(Buckets(t5, true, {1, 7, 8, 16, 32, 64, 127, 128, 999}),
              ElementsAre(17, 23, 24, 26, 28, 30, 31, 31, 31));
}

TEST(RelativeBias, IsSpreadOutByDistanceForEveryHead) {
  const RelativeConfig config = {4, 3};
  const std::vector<float> by_bucket = {0, 10, 1, 11, 2, 12, 3, 13};  // (4 buckets, 2 heads)
  EXPECT_THAT(BiasByDistance(config, false, by_bucket, 2),
              ElementsAre(3, 2, 1, 0, 0, 0, 0, 13, 12, 11, 10, 10, 10, 10));
  EXPECT_THAT(BiasByDistance(config, true, by_bucket, 2),
              ElementsAre(1, 1, 1, 0, 3, 3, 3, 11, 11, 11, 10, 13, 13, 13));
}

}  // namespace
}  // namespace thermocline
