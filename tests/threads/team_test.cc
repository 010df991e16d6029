#include "runtime/threads/team.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <ctime>
#include <numeric>
#include <stdexcept>
#include <thread>
#include <vector>

#include "runtime/threads/processors.h"

namespace thermocline {
namespace {

TEST(Lane, SplitCoversEverythingOnceAndCutsAtUnits) {
  for (const int64_t n : {0, 1, 7, 32, 100, 1000}) {
    for (const int64_t unit : {1, 8, 32}) {
      for (const int size : {1, 2, 3, 7}) {
        int64_t next = 0;
        for (int rank = 0; rank < size; ++rank) {
          const auto [begin, end] = Lane{rank, size, nullptr}.Split(n, unit);
          EXPECT_EQ(begin, next);
          EXPECT_LE(begin, end);
          EXPECT_TRUE(end == n || end % unit == 0);
          next = end;
        }
        EXPECT_EQ(next, n);
      }
    }
  }
}

TEST(ThreadTeam, BarriersOrderWritesBeforeReads) {
  constexpr int kLanes = 4;
  ThreadTeam team(kLanes);
  LaneGroup* group = team.MakeGroup(kLanes);
  std::vector<int> cells(kLanes, 0);
  std::vector<int64_t> sums(kLanes, 0);
  team.Run([&](int thread) {
    const Lane lane{thread, kLanes, group};
    for (int round = 0; round < 500; ++round) {
      cells[static_cast<size_t>(thread)] = round;
      lane.Sync();
      sums[static_cast<size_t>(thread)] += std::accumulate(cells.begin(), cells.end(), 0);
      lane.Sync();
    }
  });
  for (const int64_t sum : sums) EXPECT_EQ(sum, int64_t{kLanes} * 499 * 500 / 2);
}

TEST(ThreadTeam, SignalsHandValuesOver) {
  ThreadTeam team(2);
  Signal* there = team.MakeSignal();
  Signal* back = team.MakeSignal();
  int64_t value = 0;
  team.Run([&](int thread) {
    for (uint32_t round = 0; round < 1000; ++round) {
      if (thread == 0) {
        value += 1;
        there->Advance();
        back->AwaitChange(round);
      } else {
        there->AwaitChange(round);
        value *= 2;
        back->Advance();
      }
      if (thread == 0) value %= 1009;
    }
  });
  int64_t expected = 0;
  for (int round = 0; round < 1000; ++round) expected = (expected + 1) * 2 % 1009;
  EXPECT_EQ(value, expected);
}

TEST(ThreadTeam, AnErrorInOneLaneReachesTheCallerAndFreesTheOthers) {
  constexpr int kLanes = 3;
  ThreadTeam team(kLanes);
  LaneGroup* group = team.MakeGroup(kLanes);
  Signal* never = team.MakeSignal();
  for (int failing = 0; failing < kLanes; ++failing) {
    EXPECT_THAT(
        [&] {
          team.Run([&](int thread) {
            const Lane lane{thread, kLanes, group};
            lane.Sync();
            if (thread == failing) throw std::runtime_error("lane failed");
            if (thread == (failing + 1) % kLanes) never->AwaitChange(never->value());
            lane.Sync();
          });
        },
        testing::ThrowsMessage<std::runtime_error>("lane failed"));
    int sum = 0;  // the team works again afterwards
    team.Run([&](int thread) {
      const Lane lane{thread, kLanes, group};
      for (int turn = 0; turn < kLanes; ++turn) {
        if (turn == thread) sum += thread;
        lane.Sync();
      }
    });
    EXPECT_EQ(sum, 3);
  }
}

TEST(ThreadTeam, ATeamOfOneIsTheCallerAlone) {
  ThreadTeam team(1);
  EXPECT_EQ(team.MakeGroup(1), nullptr);
  const auto caller = std::this_thread::get_id();
  int runs = 0;
  team.Run([&](int thread) {
    EXPECT_EQ(thread, 0);
    EXPECT_EQ(std::this_thread::get_id(), caller);
    Lane{}.Sync();
    ++runs;
  });
  EXPECT_THAT([&] { team.Run([](int) { throw std::runtime_error("alone"); }); },
              testing::ThrowsMessage<std::runtime_error>("alone"));
  team.Run([&](int) { ++runs; });
  EXPECT_EQ(runs, 2);
}

TEST(ThreadTeam, ATeamThatNeverRanCanBeDestroyed) {
  for (const int n_threads : {1, 2, 3, 8}) {
    ThreadTeam team(n_threads);
    EXPECT_EQ(team.n_threads(), n_threads);
  }
}

// Each of a team's threads keeps to its CPUs; the caller does so while it is inside.
TEST(ThreadTeam, PinnedThreadsKeepToTheirCpus) {
  const std::vector<int> before = ThreadCpus();
  ASSERT_FALSE(before.empty());
  const std::vector<std::vector<int>> wanted = {{before.back()}, before, {before.front()}};
  ThreadTeam team(3, wanted);
  for (int round = 0; round < 2; ++round) {
    std::vector<std::vector<int>> found(3);
    team.Run([&](int thread) { found[static_cast<size_t>(thread)] = ThreadCpus(); });
    EXPECT_EQ(found, wanted);
    EXPECT_EQ(ThreadCpus(), before);
  }
  EXPECT_THROW(team.Run([](int) { throw std::runtime_error("lane failed"); }), std::runtime_error);
  EXPECT_EQ(ThreadCpus(), before);
}

TEST(ThreadTeam, ThreadsThatAreNotPinnedGoWhereTheirMakerMayGo) {
  const std::vector<int> before = ThreadCpus();
  for (const std::vector<int>& allowed : {before, std::vector<int>{before.front()}}) {
    std::vector<std::vector<int>> found(2);
    std::thread([&] {
      EXPECT_TRUE(SetThreadCpus(allowed));
      ThreadTeam team(2);
      team.Run([&](int thread) { found[static_cast<size_t>(thread)] = ThreadCpus(); });
    }).join();
    EXPECT_EQ(found, std::vector(2, allowed));
  }
}

double ProcessCpuSeconds() {
  timespec time{};
  EXPECT_EQ(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time), 0);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

// The time is the processor's, not that of the clock on the wall, so that a busy machine changes
// nothing.
TEST(ThreadTeam, AnIdleTeamCostsNoProcessorTime) {
  ThreadTeam fresh(4);
  ThreadTeam used(4);
  LaneGroup* group = used.MakeGroup(4);
  for (int i = 0; i < 3; ++i) used.Run([&](int thread) { Lane{thread, 4, group}.Sync(); });
  const double before = ProcessCpuSeconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_LT(ProcessCpuSeconds() - before, 0.06);
}

}  // namespace
}  // namespace thermocline
