#include "runtime/threads/sgemm.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "runtime/threads/parallel_for.h"
#include "tests/support/stack_signals.h"

namespace thermocline {
namespace {

std::vector<float> Numbers(int64_t n) {
  std::vector<float> numbers(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) numbers[static_cast<size_t>(i)] = static_cast<float>(i % 7 - 3);
  return numbers;
}

TEST(Sgemm, MultipliesWithEitherOneTransposed) {
  constexpr int64_t kM = 3;
  constexpr int64_t kN = 5;
  constexpr int64_t kK = 4;
  const std::vector<float> a = Numbers(kM * kK);
  const std::vector<float> b = Numbers(kK * kN);
  for (const bool transpose_a : {false, true}) {
    for (const bool transpose_b : {false, true}) {
      std::vector<float> c(kM * kN);
      Sgemm(transpose_a, transpose_b, kM, kN, kK, a.data(), transpose_a ? kM : kK, b.data(),
            transpose_b ? kK : kN, c.data(), kN);
      for (int64_t i = 0; i < kM; ++i) {
        for (int64_t j = 0; j < kN; ++j) {
          float expected = 0;
          for (int64_t k = 0; k < kK; ++k) {
            expected += a[static_cast<size_t>(transpose_a ? k * kM + i : i * kK + k)] *
                        b[static_cast<size_t>(transpose_b ? j * kK + k : k * kN + j)];
          }
          EXPECT_EQ(c[static_cast<size_t>(i * kN + j)], expected)
              << transpose_a << transpose_b << " " << i << ", " << j;
        }
      }
    }
  }
}

// Its generated code leaves the stack: a signal there would overwrite the heap.
TEST(Sgemm, SignalsWaitUntilItIsDone) {
  constexpr int64_t kN = 64;
  constexpr int64_t kK = 10000;
  const std::vector<float> a = Numbers(kN * kK);
  const std::vector<float> b = Numbers(kK * kN);
  const auto multiply = [&](int, int64_t, int64_t) {
    std::vector<float> c(kN * kN);
    Sgemm(false, false, kN, kN, kK, a.data(), kK, b.data(), kN, c.data(), kN);
  };
  ParallelFor(4, 1, 2, multiply);  // starts the workers
  const StackSignals signals;
  for (int round = 0; round < 20000 && signals.came() < 200; ++round) {
    multiply(0, 0, 1);
    ParallelFor(4, 1, 2, multiply);
  }
  EXPECT_GE(signals.came(), 200);
  EXPECT_EQ(signals.came_elsewhere(), 0);
}

}  // namespace
}  // namespace thermocline
