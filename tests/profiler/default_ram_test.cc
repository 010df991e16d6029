#include "profiler/placement/default_ram.h"

#include <gtest/gtest.h>

#include "runtime/core/available_memory.h"

namespace thermocline {
namespace {

TEST(DefaultRamTest, LeavesRoomForTheStandInOfVram) {
  ASSERT_TRUE(QueryAvailableMemory().has_value());
  EXPECT_EQ(DefaultRamBytes(UINT64_MAX, /*vram_is_ram=*/true), 0U);
  EXPECT_GT(DefaultRamBytes(UINT64_MAX, /*vram_is_ram=*/false), 0U);
}

}  // namespace
}  // namespace thermocline
