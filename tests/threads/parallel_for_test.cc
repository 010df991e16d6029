#include "runtime/threads/parallel_for.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr int kThreadCounts[] = {1, 2, 3, 8};

TEST(ParallelFor, EachElementOnceInTheSameChunks) {
  for (const int64_t n : {0, 1, 7, 8, 9, 1000}) {
    for (const int64_t grain : {1, 3, 8, 5000}) {
      for (const int n_threads : kThreadCounts) {
        std::vector<int> runs(static_cast<size_t>(n), 0);
        std::atomic<int> n_wrong{0};
        ParallelFor(n, grain, n_threads, [&](int thread, int64_t begin, int64_t end) {
          const bool right = begin % grain == 0 && end == std::min(begin + grain, n) &&
                             begin < end && thread >= 0 && thread < n_threads;
          if (!right) ++n_wrong;
          for (int64_t i = begin; i < end; ++i) ++runs[static_cast<size_t>(i)];
        });
        EXPECT_EQ(n_wrong, 0) << n << " by " << grain;
        EXPECT_THAT(runs, testing::Each(1)) << n << " by " << grain << ", " << n_threads;
      }
    }
  }
}

TEST(ParallelFor, RunsOnSeveralThreads) {
  std::mutex mutex;
  std::set<int> numbers;
  std::set<std::thread::id> threads;
  ParallelFor(3, 1, 3, [&](int thread, int64_t, int64_t) {
    {
      const std::lock_guard lock(mutex);
      numbers.insert(thread);
      threads.insert(std::this_thread::get_id());
    }
    // Until all are here: each has one chunk.
    for (bool alone = true; alone; std::this_thread::yield()) {
      const std::lock_guard lock(mutex);
      alone = threads.size() < 3;
    }
  });
  EXPECT_THAT(numbers, testing::ElementsAre(0, 1, 2));
}

TEST(ParallelFor, TheErrorIsThatOfTheFirstChunkThatFails) {
  for (const int n_threads : kThreadCounts) {
    for (int round = 0; round < 20; ++round) {
      const auto fail = [&](int, int64_t begin, int64_t) {
        if (begin == 6) std::this_thread::sleep_for(std::chrono::microseconds(200));
        if (begin >= 6) throw std::runtime_error(std::to_string(begin));
      };
      EXPECT_THAT([&] { ParallelFor(1000, 2, n_threads, fail); },
                  testing::ThrowsMessage<std::runtime_error>("6"));
    }
  }
  EXPECT_THROW(ParallelFor(4, 1, 2, [](int, int64_t, int64_t) { throw Interrupted(); }),
               Interrupted);
}

TEST(ParallelFor, AfterAnErrorLaterChunksAreLeftOut) {
  std::atomic<int64_t> n_runs{0};
  const auto fail = [&](int, int64_t begin, int64_t) {
    ++n_runs;
    if (begin == 0) throw std::runtime_error("the first");
    std::this_thread::sleep_for(std::chrono::microseconds(10));
  };
  EXPECT_THROW(ParallelFor(100000, 1, 2, fail), std::runtime_error);
  EXPECT_LT(n_runs, 100000);
}

TEST(ParallelFor, ALibraryInsideStaysOnItsThread) {
  for (const int n_threads : kThreadCounts) {
    std::atomic<int> most{0};
    ParallelFor(16, 1, n_threads, [&](int, int64_t, int64_t) {
      if (omp_get_max_threads() > 1) most = omp_get_max_threads();
    });
    EXPECT_EQ(most, 0) << n_threads;
  }
}

}  // namespace
}  // namespace thermocline
