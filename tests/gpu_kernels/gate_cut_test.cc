#include <algorithm>
#include <cmath>
#include <numeric>

#include "gpu_kernels/products/ffn.h"
#include "tests/gpu_kernels/gpu_test.h"
#include "tests/gpu_kernels/random_values.h"

namespace thermocline {
namespace {

using GpuGateCutTest = GpuTest;

// A gate is off by its own rounding, those of the mean and those of the deviation, times the cut.
TEST_F(GpuGateCutTest, CutsGatesByWhatAllOfATokensAre) {
  for (const size_t m : {1, 33, 700}) {
    for (const float cut : {0.0F, 1.6F, -0.5F}) {
      InEveryOrderIf(m == 33, [=] {
        constexpr size_t kTokens = 3;
        Stream stream;
        const std::vector<float> gates = RandomValues(kTokens * m, 21);
        const OnDevice<float> device(stream, gates);
        GpuCutGates(stream, cut, kTokens, static_cast<int64_t>(m), device.data());
        const std::vector<float> found = device.Read();
        for (size_t t = 0; t < kTokens; ++t) {
          const float* const row = gates.data() + t * m;
          const auto n = static_cast<double>(m);
          const double mean = std::accumulate(row, row + m, 0.0) / n;
          double squares = 0;
          for (size_t i = 0; i < m; ++i) squares += (row[i] - mean) * (row[i] - mean);
          const double least = mean + cut * std::sqrt(squares / n);
          for (size_t i = 0; i < m; ++i) {
            ASSERT_NEAR(found[t * m + i], std::max(row[i] - least, 0.0), 0x1p-24 * 2 * (n + 16))
                << i << " of " << m << ", cut " << cut;
          }
        }
      });
    }
  }
}

}  // namespace
}  // namespace thermocline
