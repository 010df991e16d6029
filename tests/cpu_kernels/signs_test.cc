// Sign bits: packing and counting differences, on every instruction set.
#include <gtest/gtest.h>

#include <bit>
#include <cstring>

#include "tests/cpu_kernels/kernel_reference.h"

namespace thermocline::testing {
namespace {

class SignsTest : public ::testing::TestWithParam<const KernelTable*> {
 protected:
  const KernelTable& kernels() const { return *GetParam(); }
};

TEST_P(SignsTest, PackTakesTheSignBitOfEveryKindOfNumber) {
  std::mt19937 rng(1);
  for (const int64_t n : {1, 7, 8, 9, 31, 63, 64, 65, 100, 128, 200, 1000}) {
    std::vector<float> x = RandomFloats(&rng, n);
    x[0] = -0.0F;
    if (n > 6) {
      x[1] = 0.0F;
      x[2] = -INFINITY;
      x[3] = -1e-45F;
      x[4] = std::bit_cast<float>(0xFFC00000U);  // NaN with its sign bit set
    }
    // Memory that ends where x ends, so that reading past it faults.
    const GuardedBytes guarded(x.size() * sizeof(float));
    std::memcpy(guarded.data(), x.data(), x.size() * sizeof(float));
    std::vector<uint64_t> words(static_cast<size_t>(n + 63) / 64 + 1, 0x5555555555555555U);
    kernels().pack_signs(reinterpret_cast<const float*>(guarded.data()), n, words.data());
    EXPECT_EQ(words.back(), 0x5555555555555555U);
    for (size_t i = 0; i < (words.size() - 1) * 64; ++i) {
      const bool expected = i < x.size() && std::bit_cast<uint32_t>(x[i]) >> 31 != 0;
      ASSERT_EQ((words[i / 64] >> (i % 64) & 1) != 0, expected) << n << " at " << i;
    }
  }
}

TEST_P(SignsTest, CountsDifferencesOfAnyLengthAndRange) {
  std::mt19937_64 rng(2);
  constexpr int64_t kRows = 9;
  for (int64_t n_words = 0; n_words <= 40; ++n_words) {
    std::vector<uint64_t> rows(static_cast<size_t>(kRows * n_words));
    std::vector<uint64_t> x(static_cast<size_t>(n_words));
    for (uint64_t& word : rows) word = rng();
    for (uint64_t& word : x) word = rng();
    if (n_words > 0) {  // no bit, and every bit
      std::copy(x.begin(), x.end(), rows.begin());
      for (int64_t k = 0; k < n_words; ++k)
        rows[static_cast<size_t>(n_words + k)] = ~x[static_cast<size_t>(k)];
    }
    const GuardedBytes guarded(rows.size() * sizeof(uint64_t));
    if (n_words > 0) std::memcpy(guarded.data(), rows.data(), rows.size() * sizeof(uint64_t));
    const auto* w = reinterpret_cast<const uint64_t*>(guarded.data());
    for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, kRows}, {3, 3}, {2, 7}}) {
      std::vector<int32_t> out(kRows, -1);
      kernels().count_sign_differences(w, n_words, x.data(), begin, end, out.data());
      for (int64_t i = 0; i < kRows; ++i) {
        int32_t expected = 0;
        for (int64_t k = 0; k < n_words; ++k) {
          expected +=
              std::popcount(rows[static_cast<size_t>(i * n_words + k)] ^ x[static_cast<size_t>(k)]);
        }
        const bool inside = i >= begin && i < end;
        ASSERT_EQ(out[static_cast<size_t>(i)], inside ? expected : -1) << n_words << " row " << i;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Tables, SignsTest,
                         ::testing::ValuesIn(AvailableCpuKernels().begin(),
                                             AvailableCpuKernels().end()),
                         [](const auto& test) { return TableName(*test.param); });

}  // namespace
}  // namespace thermocline::testing
