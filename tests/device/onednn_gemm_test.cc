#include "runtime/device/cpu/onednn_gemm.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "tests/support/stack_signals.h"

namespace thermocline {
namespace {

// Its generated code leaves the stack: a signal there would overwrite the heap. Ctrl-C during
// prefill is such a signal.
TEST(OneDnnGemm, SignalsWaitUntilItIsDone) {
  constexpr int64_t kN = 64;
  constexpr int64_t kK = 10000;
  const std::vector<float> a(kN * kK, 1.0F);
  const std::vector<float> b(kN * kK, 2.0F);
  std::vector<float> c(kN * kN);
  OneDnnGemm gemm;
  const F32Product product{.accumulate = false,
                           .m = kN,
                           .k = kK,
                           .n = kN,
                           .lda = kK,
                           .ldb_k = 1,
                           .ldb_n = kK,
                           .ldc = kN};
  const StackSignals signals;
  for (int round = 0; round < 20000 && signals.came() < 200; ++round) {
    gemm.Run(product, a.data(), b.data(), c.data());
  }
  EXPECT_GE(signals.came(), 200);
  EXPECT_EQ(signals.came_elsewhere(), 0);
  EXPECT_EQ(c[0], 2.0F * kK);
}

}  // namespace
}  // namespace thermocline
