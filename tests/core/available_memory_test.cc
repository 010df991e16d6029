#include "runtime/core/available_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/fake_root.h"

namespace thermocline {
namespace {

using testing::AllOf;
using testing::Field;
using testing::Optional;

constexpr const char* kMeminfo =
    "MemTotal:  2000 kB\nMemFree: 5 kB\nMemAvailable:   1000 kB\nBuffers: 1 kB\n";

class AvailableMemoryTest : public testing::Test, public FakeRoot {
 protected:
  auto Is(uint64_t n_bytes, const std::string& limited_by) const {
    return Optional(AllOf(Field(&AvailableMemory::n_bytes, n_bytes),
                          Field(&AvailableMemory::limited_by, limited_by)));
  }
};

TEST_F(AvailableMemoryTest, IsWhatTheMachineHas) {
  Write("proc/meminfo", kMeminfo);
  EXPECT_THAT(QueryAvailableMemory(root()), Is(1000 * 1024, "this machine"));
}

TEST_F(AvailableMemoryTest, IsNotKnownWhereThereIsNothingToRead) {
  EXPECT_FALSE(QueryAvailableMemory(root()).has_value());
  for (const char* text : {"", "MemTotal: 5 kB\n", "MemAvailable: many kB\n",
                           "MemAvailable:", "MemAvailable: 99999999999999999999999 kB\n",
                           "MemAvailable: 18446744073709551615 kB\n"}) {
    Write("proc/meminfo", text);
    EXPECT_FALSE(QueryAvailableMemory(root()).has_value()) << text;
  }
}

TEST_F(AvailableMemoryTest, AGroupsLimitCounts) {
  Write("proc/meminfo", kMeminfo);
  Write("proc/self/cgroup", "0::/user/shell\n");
  EXPECT_THAT(QueryAvailableMemory(root()), Is(1000 * 1024, "this machine"));
  const std::string group = "sys/fs/cgroup/user/shell/";
  Write(group + "memory.max", "max\n");
  Write(group + "memory.current", "300000\n");
  EXPECT_THAT(QueryAvailableMemory(root()), Is(1000 * 1024, "this machine"));
  Write(group + "memory.max", "500000\n");
  EXPECT_THAT(QueryAvailableMemory(root()), Is(200000, "the control group /user/shell"));
  // Cached pages of files are given back.
  Write(group + "memory.stat",
        "anon 100000\nactive_file 150000\ninactive_file 20000\nfile 250000\n");
  EXPECT_THAT(QueryAvailableMemory(root()), Is(370000, "the control group /user/shell"));
  Write(group + "memory.high", "400000\n");
  EXPECT_THAT(QueryAvailableMemory(root()), Is(270000, "the control group /user/shell"));
  // More is used than allowed, as after a limit was lowered.
  Write(group + "memory.high", "100\n");
  EXPECT_THAT(QueryAvailableMemory(root()), Is(0, "the control group /user/shell"));
}

TEST_F(AvailableMemoryTest, TheLeastOfTheGroupsAboveCounts) {
  Write("proc/meminfo", kMeminfo);
  Write("proc/self/cgroup", "0::/user/shell\n");
  Write("sys/fs/cgroup/user/memory.max", "9000\n");
  Write("sys/fs/cgroup/user/memory.current", "2000\n");
  Write("sys/fs/cgroup/user/shell/memory.max", "500000\n");
  Write("sys/fs/cgroup/user/shell/memory.current", "1000\n");
  EXPECT_THAT(QueryAvailableMemory(root()), Is(7000, "the control group /user"));
}

TEST_F(AvailableMemoryTest, Version1HasOtherNames) {
  Write("proc/meminfo", kMeminfo);
  Write("proc/self/cgroup", "5:cpu,cpuacct:/other\n3:memory:/docker/abc\n");
  // In a container the group's own path is not there: its files lie at the top.
  Write("sys/fs/cgroup/memory/memory.limit_in_bytes", "600000\n");
  Write("sys/fs/cgroup/memory/memory.usage_in_bytes", "500000\n");
  Write("sys/fs/cgroup/memory/memory.stat",
        "active_file 1\ninactive_file 1\ntotal_active_file 100000\ntotal_inactive_file 50000\n");
  EXPECT_THAT(QueryAvailableMemory(root()), Is(250000, "the control group /"));
}

TEST_F(AvailableMemoryTest, GroupsThatAreNoneChangeNothing) {
  Write("proc/meminfo", kMeminfo);
  for (const char* groups : {"", "0::\n", "garbage\n", "::\n", "1:memory\n", "0::/a/../../..\n"}) {
    Write("proc/self/cgroup", groups);
    EXPECT_THAT(QueryAvailableMemory(root()), Is(1000 * 1024, "this machine")) << groups;
  }
}

TEST_F(AvailableMemoryTest, TheMostThatWasResident) {
  EXPECT_FALSE(PeakResidentBytes(root()).has_value());
  Write("proc/self/status", "Name:\tthermocline\nVmPeak:\t  900 kB\nVmHWM:\t  123 kB\n");
  EXPECT_THAT(PeakResidentBytes(root()), Optional(123U * 1024));
}

}  // namespace
}  // namespace thermocline
