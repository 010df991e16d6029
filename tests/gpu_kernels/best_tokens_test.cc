#include "gpu_kernels/tokens/best_tokens.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "tests/gpu_kernels/gpu_test.h"
#include "tests/gpu_kernels/random_values.h"

namespace thermocline {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Ids of the finite logits, best first.
std::vector<int32_t> Ranked(const float* logits, int64_t n) {
  std::vector<int32_t> ids(static_cast<size_t>(n));
  std::iota(ids.begin(), ids.end(), 0);
  std::erase_if(ids, [&](int32_t id) { return !std::isfinite(logits[id]); });
  std::stable_sort(ids.begin(), ids.end(),
                   [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  return ids;
}

// Rounded so that many are equal; some of both zeros, some not finite.
std::vector<float> Logits(int64_t n, uint32_t seed) {
  std::vector<float> logits = RandomValues(static_cast<size_t>(n), seed);
  for (size_t i = 0; i < logits.size(); ++i) {
    logits[i] = std::round(logits[i] * 64) / 4;
    if (i % 97 == 5) logits[i] = kInfinity;
    if (i % 89 == 7) logits[i] = -kInfinity;
    if (i % 83 == 11) logits[i] = std::numeric_limits<float>::quiet_NaN();
  }
  return logits;
}

void ExpectBest(const std::vector<float>& logits, int64_t n_rows) {
  Stream stream;
  const auto vocab_size = static_cast<int64_t>(logits.size()) / n_rows;
  const OnDevice<float> logits_device(stream, logits);
  const DeviceMemory scratch(GpuFindBestScratchBytes(n_rows, vocab_size), "a test");
  const OnDevice<GpuBestToken> best(stream, std::vector<GpuBestToken>(static_cast<size_t>(n_rows)));
  GpuFindBest(stream, logits_device.data(), n_rows, vocab_size, scratch.as<void>(), best.data());
  const std::vector<GpuBestToken> found = best.Read();
  for (int64_t row = 0; row < n_rows; ++row) {
    const float* const of_row = logits.data() + row * vocab_size;
    const std::vector<int32_t> ranked = Ranked(of_row, vocab_size);
    const GpuBestToken& token = found[static_cast<size_t>(row)];
    if (ranked.empty()) {
      EXPECT_EQ(token.id, -1);
      EXPECT_TRUE(std::isnan(token.logit));
      continue;
    }
    EXPECT_EQ(token.id, ranked[0]) << "row " << row;
    EXPECT_EQ(token.logit, of_row[ranked[0]]);
    EXPECT_EQ(token.lead, ranked.size() == 1 ? kInfinity : of_row[ranked[0]] - of_row[ranked[1]]);
  }
}

void ExpectTop(const std::vector<float>& logits, int64_t n_rows, int64_t k) {
  Stream stream;
  const auto vocab_size = static_cast<int64_t>(logits.size()) / n_rows;
  const auto n = static_cast<size_t>(n_rows * k);
  const OnDevice<float> logits_device(stream, logits);
  const DeviceMemory scratch(GpuTopTokensScratchBytes(n_rows, vocab_size, k), "a test");
  const OnDevice<int32_t> ids(stream, std::vector<int32_t>(n));
  const OnDevice<float> values(stream, std::vector<float>(n));
  GpuTopTokens(stream, logits_device.data(), n_rows, vocab_size, k, scratch.as<void>(), ids.data(),
               values.data());
  const std::vector<int32_t> found_ids = ids.Read();
  const std::vector<float> found_values = values.Read();
  for (int64_t i = 0; i < n_rows * k; ++i) {
    const float* const of_row = logits.data() + i / k * vocab_size;
    const std::vector<int32_t> ranked = Ranked(of_row, vocab_size);
    const auto rank = static_cast<size_t>(i % k);
    const bool there = rank < ranked.size();
    ASSERT_EQ(found_ids[static_cast<size_t>(i)], there ? ranked[rank] : -1)
        << "rank " << rank << " of " << k << " in " << vocab_size;
    const float value = found_values[static_cast<size_t>(i)];
    ASSERT_TRUE(there ? value == of_row[ranked[rank]] : std::isnan(value)) << value;
  }
}

using GpuBestTokensTest = GpuTest;

TEST_F(GpuBestTokensTest, FindsTheBestAndItsLead) {
  for (const int64_t vocab_size : {1, 2, 31, 257, 4096, 4097, 9001}) {
    InEveryOrder([&] { ExpectBest(Logits(2 * vocab_size, 1), 2); });
  }
}

TEST_F(GpuBestTokensTest, OfEqualLogitsTheLowestId) {
  InEveryOrder([] {
    ExpectBest(std::vector<float>(5000, -3.5F), 1);
    ExpectBest({-1.0F, -0.0F, 0.0F, -0.0F}, 1);
    ExpectTop({-1.0F, -0.0F, 0.0F, -0.0F}, 1, 3);
  });
}

TEST_F(GpuBestTokensTest, NothingFiniteIsNoToken) {
  const std::vector<float> logits(300, std::numeric_limits<float>::quiet_NaN());
  ExpectBest(logits, 1);
  ExpectTop(logits, 1, 5);
}

TEST_F(GpuBestTokensTest, FindsTheBestK) {
  InEveryOrder([] { ExpectTop(Logits(2 * 300, 2), 2, 40); });
  for (const int64_t vocab_size : {1, 2048, 2049, 5003}) {
    ExpectTop(Logits(vocab_size, 3), 1, 7);
  }
  ExpectTop(Logits(2 * 5003, 4), 2, kMaxTopTokens);  // three rounds
}

}  // namespace
}  // namespace thermocline
