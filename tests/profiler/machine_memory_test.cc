#include "profiler/placement/machine_memory.h"

#include <gtest/gtest.h>

#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

TEST(MachineMemoryTest, ReadsTheAvailableMemory) {
  const TempDir dir;
  const std::string path = dir.file("meminfo");
  WriteWholeFile(path,
                 "MemTotal:  2000 kB\nMemFree: 5 kB\nMemAvailable:   1000 kB\nBuffers: 1 kB\n");
  EXPECT_EQ(AvailableMemoryBytes(path), 1000U * 1024);
}

TEST(MachineMemoryTest, SaysNothingWhereThereIsNothingToRead) {
  const TempDir dir;
  const std::string path = dir.file("meminfo");
  EXPECT_FALSE(AvailableMemoryBytes(path).has_value());
  for (const char* text : {"", "MemTotal: 5 kB\n", "MemAvailable: many kB\n",
                           "MemAvailable:", "MemAvailable: 99999999999999999999999 kB\n",
                           "MemAvailable: 18446744073709551615 kB\n"}) {
    WriteWholeFile(path, text);
    EXPECT_FALSE(AvailableMemoryBytes(path).has_value()) << text;
  }
}

TEST(MachineMemoryTest, TheDefaultLeavesRoomForTheStandInOfVram) {
  const auto available = AvailableMemoryBytes();
  if (!available) GTEST_SKIP() << "no /proc/meminfo with MemAvailable on this machine";
  EXPECT_EQ(DefaultRamBytes(UINT64_MAX, /*vram_is_ram=*/true), 0U);
  EXPECT_GT(DefaultRamBytes(UINT64_MAX, /*vram_is_ram=*/false), 0U);
}

}  // namespace
}  // namespace thermocline
