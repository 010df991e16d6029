#include "runtime/core/checked_math.h"

#include <gtest/gtest.h>

namespace thermocline {
namespace {

TEST(CheckedMath, Multiplies) {
  uint64_t out = 0;
  EXPECT_TRUE(CheckedMul(1ULL << 32, (1ULL << 32) - 1, &out));
  EXPECT_EQ(out, 0xffffffff00000000ULL);
  EXPECT_FALSE(CheckedMul(1ULL << 32, 1ULL << 32, &out));
  EXPECT_FALSE(CheckedMul(UINT64_MAX, 2, &out));
  EXPECT_TRUE(CheckedMul(UINT64_MAX, 0, &out));
  EXPECT_EQ(out, 0U);
}

TEST(CheckedMath, Adds) {
  uint64_t out = 0;
  EXPECT_TRUE(CheckedAdd(UINT64_MAX - 1, 1, &out));
  EXPECT_EQ(out, UINT64_MAX);
  EXPECT_FALSE(CheckedAdd(UINT64_MAX, 1, &out));
}

TEST(CheckedMath, AlignsUp) {
  uint64_t out = 1;
  EXPECT_TRUE(CheckedAlignUp(0, 32, &out));
  EXPECT_EQ(out, 0U);
  EXPECT_TRUE(CheckedAlignUp(33, 32, &out));
  EXPECT_EQ(out, 64U);
  EXPECT_TRUE(CheckedAlignUp(64, 32, &out));
  EXPECT_EQ(out, 64U);
  EXPECT_TRUE(CheckedAlignUp(7, 3, &out));
  EXPECT_EQ(out, 9U);
  EXPECT_TRUE(CheckedAlignUp(UINT64_MAX - 31, 32, &out));
  EXPECT_EQ(out, UINT64_MAX - 31);
  EXPECT_FALSE(CheckedAlignUp(UINT64_MAX - 30, 32, &out));
}

TEST(CheckedMath, Divides) {
  EXPECT_EQ(CeilDiv(0, 4), 0);
  EXPECT_EQ(CeilDiv(1, 4), 1);
  EXPECT_EQ(CeilDiv(8, 4), 2);
  EXPECT_EQ(AlignUp(9, 4), 12);
}

}  // namespace
}  // namespace thermocline
