// Lane::Share: who runs which chunk of an operation is open, but every element is run once.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

#include "runtime/threads/team.h"

namespace thermocline {
namespace {

using Clock = std::chrono::steady_clock;

struct Cut {
  int64_t unit;
  int64_t grain;
};
constexpr Cut kCuts[] = {{1, 1}, {1, 7}, {8, 8}, {8, 32}, {32, 96}};

// Waits until `done` holds, for half a minute at most.
template <typename Done>
bool Await(const Done& done) {
  const auto end = Clock::now() + std::chrono::seconds(30);
  while (!done()) {
    if (Clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  return true;
}

void ExpectChunk(int64_t begin, int64_t end, int64_t n, const Cut& cut, bool alone) {
  EXPECT_LE(0, begin);
  EXPECT_LT(begin, end);
  EXPECT_LE(end, n);
  EXPECT_EQ(begin % cut.unit, 0);
  EXPECT_TRUE(end == n || end % cut.unit == 0);
  EXPECT_TRUE(alone || end - begin <= cut.grain);
}

TEST(Share, EveryElementIsRunOnce) {
  for (const int n_lanes : {1, 2, 3, 5}) {
    ThreadTeam team(n_lanes);
    LaneGroup* group = team.MakeGroup(n_lanes);
    for (const int64_t n : {0, 1, 5, 31, 32, 33, 100, 1000}) {
      for (const Cut& cut : kCuts) {
        std::vector<std::atomic<int>> runs(static_cast<size_t>(n));
        team.Run([&](int thread) {
          const Lane lane{thread, n_lanes, group};
          lane.Share(n, cut.unit, cut.grain, [&](int64_t begin, int64_t end) {
            ExpectChunk(begin, end, n, cut, group == nullptr);
            for (int64_t i = begin; i < end; ++i) ++runs[static_cast<size_t>(i)];
          });
          lane.Sync();
        });
        for (const auto& count : runs) {
          ASSERT_EQ(count, 1) << n << " elements, unit " << cut.unit << ", " << n_lanes << " lanes";
        }
      }
    }
  }
}

// A lane that stands still in its first chunk goes on only when all the others are done: the other
// lanes must have taken over the rest of its share.
TEST(Share, OthersTakeOverWhatADelayedLaneHasNotBegun) {
  constexpr int kLanes = 3;
  constexpr int64_t kChunks = 60;
  ThreadTeam team(kLanes);
  LaneGroup* group = team.MakeGroup(kLanes);
  for (int delayed = 0; delayed < kLanes; ++delayed) {
    std::vector<std::atomic<int>> chunks_of(kLanes);
    std::atomic<int64_t> done{0};
    bool taken_over = true;  // written by the delayed lane alone
    team.Run([&](int thread) {
      const Lane lane{thread, kLanes, group};
      lane.Share(kChunks, 1, 1, [&](int64_t, int64_t) {
        ++chunks_of[static_cast<size_t>(thread)];
        if (thread == delayed) {
          taken_over = Await([&] { return done == kChunks - 1; }) && taken_over;
        }
        ++done;
      });
      lane.Sync();
    });
    EXPECT_TRUE(taken_over) << "lane " << delayed << " waited in vain";
    EXPECT_EQ(done, kChunks);
    EXPECT_LE(chunks_of[static_cast<size_t>(delayed)], 1);
  }
}

// The counts of several operations lie in turn in a few places; each must be found cleared.
TEST(Share, ManyOperationsInARow) {
  constexpr int kLanes = 3;
  constexpr int64_t kRounds = 10'000;
  constexpr int64_t kMost = 40;
  ThreadTeam team(kLanes);
  LaneGroup* group = team.MakeGroup(kLanes);
  std::vector<int64_t> runs(kMost, 0);  // no atomics: no two lanes may have one element
  const auto length = [](int64_t round) { return (round * 7 + round / 11) % (kMost + 1); };
  team.Run([&](int thread) {
    const Lane lane{thread, kLanes, group};
    for (int64_t round = 0; round < kRounds; ++round) {
      if (round % 64 == 0 && round / 64 % kLanes == thread) std::this_thread::yield();
      const Cut& cut = kCuts[round % 3];
      lane.Share(length(round), cut.unit, cut.grain, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) ++runs[static_cast<size_t>(i)];
      });
      lane.Sync();
      if (round % 5 == 0) lane.Sync();  // an operation without a Share
    }
  });
  std::vector<int64_t> expected(kMost, 0);
  for (int64_t round = 0; round < kRounds; ++round) {
    for (int64_t i = 0; i < length(round); ++i) ++expected[static_cast<size_t>(i)];
  }
  EXPECT_EQ(runs, expected);
}

// One lane fails while another is in the middle of its share: what is left is not run, nothing is
// run twice, and the next Run finds the team as new.
TEST(Share, AFailingLaneEndsTheOperationAndTheTeamWorksAgain) {
  constexpr int kLanes = 2;
  constexpr int64_t kChunks = 16;
  ThreadTeam team(kLanes);
  LaneGroup* group = team.MakeGroup(kLanes);
  for (int failing = 0; failing < kLanes; ++failing) {
    std::vector<std::atomic<int>> runs(kChunks);
    std::atomic<int> begun{0};  // chunks of the lane that does not fail
    std::atomic<bool> fails{false};
    const auto body = [&](int thread, int64_t chunk) {
      ++runs[static_cast<size_t>(chunk)];
      if (thread == failing) {
        EXPECT_TRUE(Await([&] { return begun >= 2; }));
        fails = true;
        throw std::runtime_error("a chunk failed");
      }
      if (++begun != 2) return;
      EXPECT_TRUE(Await([&] { return fails.load(); }));
      // The error is on its way to the team.
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    };
    EXPECT_THAT(
        [&] {
          team.Run([&](int thread) {
            const Lane lane{thread, kLanes, group};
            lane.Sync();
            lane.Share(kChunks, 1, 1, [&](int64_t begin, int64_t) { body(thread, begin); });
            lane.Sync();
          });
        },
        testing::ThrowsMessage<std::runtime_error>("a chunk failed"));
    for (const auto& count : runs) EXPECT_LE(count, 1);

    std::vector<std::atomic<int>> again(kChunks);
    team.Run([&](int thread) {
      const Lane lane{thread, kLanes, group};
      for (int round = 0; round < 9; ++round) {
        lane.Share(kChunks, 1, 1,
                   [&](int64_t begin, int64_t) { ++again[static_cast<size_t>(begin)]; });
        lane.Sync();
      }
    });
    for (const auto& count : again) EXPECT_EQ(count, 9);
  }
}

}  // namespace
}  // namespace thermocline
