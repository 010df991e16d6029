#include "runtime/core/checked_math.h"

#include <gtest/gtest.h>

namespace thermocline {
namespace {

TEST(CheckedMath, Multiplies) {
  uint64_t out = 0;
  EXPECT_TRUE(checked_mul(1ULL << 32, (1ULL << 32) - 1, &out));
  EXPECT_EQ(out, 0xffffffff00000000ULL);
  EXPECT_FALSE(checked_mul(1ULL << 32, 1ULL << 32, &out));
  EXPECT_FALSE(checked_mul(UINT64_MAX, 2, &out));
  EXPECT_TRUE(checked_mul(UINT64_MAX, 0, &out));
  EXPECT_EQ(out, 0U);
}

TEST(CheckedMath, Adds) {
  uint64_t out = 0;
  EXPECT_TRUE(checked_add(UINT64_MAX - 1, 1, &out));
  EXPECT_EQ(out, UINT64_MAX);
  EXPECT_FALSE(checked_add(UINT64_MAX, 1, &out));
}

TEST(CheckedMath, AlignsUp) {
  uint64_t out = 1;
  EXPECT_TRUE(checked_align_up(0, 32, &out));
  EXPECT_EQ(out, 0U);
  EXPECT_TRUE(checked_align_up(33, 32, &out));
  EXPECT_EQ(out, 64U);
  EXPECT_TRUE(checked_align_up(64, 32, &out));
  EXPECT_EQ(out, 64U);
  EXPECT_TRUE(checked_align_up(7, 3, &out));
  EXPECT_EQ(out, 9U);
  EXPECT_TRUE(checked_align_up(UINT64_MAX - 31, 32, &out));
  EXPECT_EQ(out, UINT64_MAX - 31);
  EXPECT_FALSE(checked_align_up(UINT64_MAX - 30, 32, &out));
}

TEST(CheckedMath, Divides) {
  EXPECT_EQ(ceil_div(0, 4), 0);
  EXPECT_EQ(ceil_div(1, 4), 1);
  EXPECT_EQ(ceil_div(8, 4), 2);
  EXPECT_EQ(align_up(9, 4), 12);
}

}  // namespace
}  // namespace thermocline
