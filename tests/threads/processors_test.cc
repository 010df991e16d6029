#include "runtime/threads/processors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "runtime/core/error.h"
#include "tests/support/fake_root.h"

namespace thermocline {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

class ProcessorsTest : public testing::Test, public FakeRoot {
 protected:
  void Siblings(int cpu, const std::string& list) {
    Write("sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list",
          list + "\n");
  }
};

TEST(ParseNumberListTest, ReadsWhatTheKernelWrites) {
  EXPECT_THAT(*ParseNumberList("0"), ElementsAre(0));
  EXPECT_THAT(*ParseNumberList("0-2,8,10-11"), ElementsAre(0, 1, 2, 8, 10, 11));
  EXPECT_THAT(*ParseNumberList("5,1-2,2"), ElementsAre(1, 2, 5));
}

TEST(ParseNumberListTest, RefusesWhatIsNoList) {
  for (const char* text :
       {"", ",", "1,", "1-", "-1", "3-2", "a", "1 2", "1;2", "0-99999999", "4294967296", "1-2-3"}) {
    EXPECT_FALSE(ParseNumberList(text).has_value()) << text;
  }
}

TEST_F(ProcessorsTest, SiblingsCountOnce) {
  for (const int cpu : {0, 4}) Siblings(cpu, "0,4");
  for (const int cpu : {1, 5}) Siblings(cpu, "1,5");
  EXPECT_THAT(PhysicalCores(std::vector{0, 1, 4, 5}, root()),
              ElementsAre(ElementsAre(0, 4), ElementsAre(1, 5)));
  EXPECT_THAT(PhysicalCores(std::vector{4, 5}, root()),
              ElementsAre(ElementsAre(4), ElementsAre(5)));
  EXPECT_THAT(PhysicalCores(std::vector{0, 4, 5}, root()),
              ElementsAre(ElementsAre(0, 4), ElementsAre(5)));
  EXPECT_EQ(UsableCores(std::vector{0, 1, 4, 5}, root()), 2);
  EXPECT_EQ(UsableCores(std::vector{0, 4}, root()), 1);
}

TEST_F(ProcessorsTest, WithoutATopologyEveryCpuIsACore) {
  EXPECT_THAT(PhysicalCores(std::vector{2, 3, 7}, root()),
              ElementsAre(ElementsAre(2), ElementsAre(3), ElementsAre(7)));
  EXPECT_EQ(UsableCores(std::vector{2, 3, 7}, root()), 3);
  EXPECT_EQ(UsableCores({}, root()), 1);
}

// Eight CPUs: two performance cores with two threads each, and four efficient ones.
TEST_F(ProcessorsTest, ThreadsGoToPerformanceCores) {
  Write("sys/devices/cpu_core/cpus", "0-3\n");
  Write("sys/devices/cpu_atom/cpus", "4-7\n");
  Write("sys/devices/system/cpu/online", "0-7\n");
  for (const int cpu : {0, 1}) Siblings(cpu, "0-1");
  for (const int cpu : {2, 3}) Siblings(cpu, "2-3");
  const std::vector all = {0, 1, 2, 3, 4, 5, 6, 7};
  EXPECT_THAT(FastCpus(all, root()), ElementsAre(0, 1, 2, 3));
  EXPECT_EQ(UsableCores(all, root()), 2);
  EXPECT_THAT(CoresToPin(Pinning::kAuto, 2, all, root()),
              ElementsAre(ElementsAre(0, 1), ElementsAre(2, 3)));
  EXPECT_THAT(CoresToPin(Pinning::kAuto, 6, all, root()), IsEmpty());
  EXPECT_THAT(CoresToPin(Pinning::kOn, 3, all, root()),
              ElementsAre(ElementsAre(0, 1), ElementsAre(2, 3), ElementsAre(4)));
  // A process that was given efficient cores alone uses them.
  EXPECT_EQ(UsableCores(std::vector{4, 5, 6}, root()), 3);
}

TEST_F(ProcessorsTest, CoresOfLittleCapacityAreLeftOut) {
  const std::vector all = {0, 1, 2, 3};
  const auto capacity = [this](int cpu, const std::string& text) {
    Write("sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/cpu_capacity", text);
  };
  for (const int cpu : {0, 1}) capacity(cpu, "1024\n");
  for (const int cpu : {2, 3}) capacity(cpu, "620\n");
  EXPECT_THAT(FastCpus(all, root()), ElementsAre(0, 1));
  for (const int cpu : {2, 3}) capacity(cpu, "900\n");  // turbo of single cores differs so far
  EXPECT_THAT(FastCpus(all, root()), ElementsAre(0, 1, 2, 3));
  for (const int cpu : all) capacity(cpu, "much\n");
  EXPECT_THAT(FastCpus(all, root()), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(FastCpus({}, root()), IsEmpty());
}

TEST_F(ProcessorsTest, PinsByItselfOnlyOneThreadToEveryCoreOfTheMachine) {
  Write("sys/devices/system/cpu/online", "0-3\n");
  for (const int cpu : {0, 2}) Siblings(cpu, "0,2");
  for (const int cpu : {1, 3}) Siblings(cpu, "1,3");
  const std::vector all = {0, 1, 2, 3};
  EXPECT_THAT(CoresToPin(Pinning::kAuto, 2, all, root()),
              ElementsAre(ElementsAre(0, 2), ElementsAre(1, 3)));
  for (const int n_threads : {1, 3, 4}) {
    EXPECT_THAT(CoresToPin(Pinning::kAuto, n_threads, all, root()), IsEmpty()) << n_threads;
  }
  EXPECT_THAT(CoresToPin(Pinning::kOff, 2, all, root()), IsEmpty());
}

TEST_F(ProcessorsTest, DoesNotPinByItselfWhereCpusWereTakenAway) {
  Write("sys/devices/system/cpu/online", "0-2\n");
  EXPECT_THAT(CoresToPin(Pinning::kAuto, 3, std::vector{0, 1, 2}, root()), SizeIs(3));
  EXPECT_THAT(CoresToPin(Pinning::kAuto, 2, std::vector{0, 1}, root()), IsEmpty());
  EXPECT_THAT(CoresToPin(Pinning::kAuto, 1, std::vector{2}, root()), IsEmpty());
  EXPECT_THAT(CoresToPin(Pinning::kAuto, 1, {}, root()), IsEmpty());
}

TEST_F(ProcessorsTest, DoesNotPinByItselfWhereTheMachineIsNotKnown) {
  EXPECT_THAT(CoresToPin(Pinning::kAuto, 2, std::vector{0, 1}, root()), IsEmpty());
}

TEST_F(ProcessorsTest, PinsWhenToldToWithinTheCpusItMayUse) {
  Write("sys/devices/system/cpu/online", "0-7\n");
  EXPECT_THAT(CoresToPin(Pinning::kOn, 2, std::vector{3, 5, 6}, root()),
              ElementsAre(ElementsAre(3), ElementsAre(5)));
  EXPECT_THAT(
      [&] {
        CoresToPin(Pinning::kOn, 4, std::vector{3, 5, 6}, root());
      },
      testing::ThrowsMessage<Error>(testing::HasSubstr(
          "at most one for each of the 3 physical cores that may be used, found 4")));
}

TEST_F(ProcessorsTest, TheLeastQuotaOfTheGroupsAboveCounts) {
  EXPECT_FALSE(CpuQuota(root()).has_value());
  Write("proc/self/cgroup", "0::/user/shell\n");
  EXPECT_FALSE(CpuQuota(root()).has_value());
  Write("sys/fs/cgroup/user/shell/cpu.max", "max 100000\n");
  EXPECT_FALSE(CpuQuota(root()).has_value());
  Write("sys/fs/cgroup/user/shell/cpu.max", "350000 100000\n");
  EXPECT_EQ(CpuQuota(root()), 3.5);
  Write("sys/fs/cgroup/user/cpu.max", "250000 100000\n");
  EXPECT_EQ(CpuQuota(root()), 2.5);
  EXPECT_EQ(UsableCores(std::vector{0, 1, 2, 3}, root()), 2);
  EXPECT_EQ(UsableCores(std::vector{0}, root()), 1);
  Write("sys/fs/cgroup/user/cpu.max", "50000 100000\n");
  EXPECT_EQ(UsableCores(std::vector{0, 1, 2, 3}, root()), 1);
}

// A container sees the path that its group has outside, and its own group as the top.
TEST_F(ProcessorsTest, AGroupThatIsNotThereLeavesTheTop) {
  Write("proc/self/cgroup", "0::/machine/box-17\n");
  Write("sys/fs/cgroup/cpu.max", "200000 100000\n");
  EXPECT_EQ(CpuQuota(root()), 2.0);
}

TEST_F(ProcessorsTest, QuotasOfVersion1) {
  Write("proc/self/cgroup", "5:cpuset:/other\n3:cpuacct,cpu:/jobs\n1:name=systemd:/\n");
  Write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  Write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_FALSE(CpuQuota(root()).has_value());
  Write("sys/fs/cgroup/cpu/jobs/cpu.cfs_quota_us", "150000\n");
  Write("sys/fs/cgroup/cpu/jobs/cpu.cfs_period_us", "50000\n");
  EXPECT_EQ(CpuQuota(root()), 3.0);
}

TEST_F(ProcessorsTest, QuotasThatAreNoneAreNoLimit) {
  for (const char* text : {"", "max", "100000", "many 100000", "100000 0", "0 100000", "-5 -5"}) {
    Write("proc/self/cgroup", "nothing\n::\n0::/\n");
    Write("sys/fs/cgroup/cpu.max", text);
    EXPECT_FALSE(CpuQuota(root()).has_value()) << text;
  }
}

TEST_F(ProcessorsTest, NodesWithMemoryBesideTheCpus) {
  Write("sys/devices/system/node/has_memory", "0-2\n");
  Write("sys/devices/system/node/node0/cpulist", "0-3\n");
  Write("sys/devices/system/node/node1/cpulist", "4-7\n");
  Write("sys/devices/system/node/node2/cpulist", "\n");     // memory alone
  Write("sys/devices/system/node/node3/cpulist", "8-9\n");  // processors alone
  EXPECT_THAT(NodesBeside(std::vector{0, 5, 8}, root()), ElementsAre(0, 1));
  EXPECT_THAT(NodesBeside(std::vector{4, 5}, root()), ElementsAre(1));
  EXPECT_THAT(NodesBeside(std::vector{8}, root()), IsEmpty());
}

TEST_F(ProcessorsTest, NodesOfASystemThatNamesNone) {
  EXPECT_THAT(NodesBeside(std::vector{0}, root()), IsEmpty());
  Write("sys/devices/system/node/has_memory", "some\n");
  EXPECT_THAT(NodesBeside(std::vector{0}, root()), IsEmpty());
}

TEST(ThreadCpusTest, AreWhatTheyWereSetTo) {
  const std::vector<int> before = ThreadCpus();
  ASSERT_FALSE(before.empty());
  std::thread([&] {
    for (const int cpu : before) {
      EXPECT_TRUE(SetThreadCpus(std::vector{cpu}));
      EXPECT_THAT(ThreadCpus(), ElementsAre(cpu));
      EXPECT_EQ(DefaultThreadCount(), 1);  // the user's taskset is respected
    }
    EXPECT_FALSE(SetThreadCpus({}));
    EXPECT_FALSE(SetThreadCpus(std::vector{-1}));
    EXPECT_THAT(ThreadCpus(), ElementsAre(before.back()));
  }).join();
  EXPECT_EQ(ThreadCpus(), before);
}

}  // namespace
}  // namespace thermocline
