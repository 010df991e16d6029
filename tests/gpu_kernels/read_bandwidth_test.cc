#include "gpu_kernels/base/read_bandwidth.h"

#include <numeric>
#include <random>

#include "tests/gpu_kernels/gpu_test.h"

namespace thermocline {
namespace {

using GpuReadWordsTest = GpuTest;

TEST_F(GpuReadWordsTest, EveryWordIsAddedOnce) {
  for (const size_t n : {4, 1020, 1024, 4096, 4100, 70'004}) {
    std::vector<uint32_t> words(n);
    std::mt19937 rng(static_cast<unsigned>(n));
    for (uint32_t& word : words) word = static_cast<uint32_t>(rng());
    InEveryOrderIf(n == 1020, [&] {
      Stream stream;
      const OnDevice<uint32_t> data(stream, words);
      const OnDevice<uint32_t> sum(stream, std::vector<uint32_t>{5});
      GpuReadWords(stream, data.data(), n * sizeof(uint32_t), sum.data());
      EXPECT_EQ(sum.Read()[0], std::accumulate(words.begin(), words.end(), uint32_t{5})) << n;
    });
  }
}

}  // namespace
}  // namespace thermocline
