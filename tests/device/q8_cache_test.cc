// Compares keys and values of 8 bits with those of f16.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "tests/device/attention_fixture.h"
#include "tests/support/message_of.h"

namespace thermocline {
namespace {

// Bounds how far 8 bit keys, values and queries may move the result. Rounding is off by up to half
// a step, as good as evenly spread, so a score's error has a standard deviation to be had from the
// steps; six of them hold for all. e^(2 error) is what that does to a weight.
TEST(Q8Cache, StaysNearTheF16Cache) {
  for (const Heads& heads : kQ8Heads) {
    const Attention f16 = Contiguous(heads, DType::kF16);
    const Attention q8 = Contiguous(heads, DType::kQ8_0);
    const int64_t position = kMaxSeqLen - 1;
    const std::vector<float> expected = f16.Run(position, 1, 1);
    const std::vector<float> found = q8.Run(position, 1, 1);
    EXPECT_NE(found, expected);
    for (int64_t head = 0; head < heads.n_heads; ++head) {
      const int64_t kv_head = head / (heads.n_heads / heads.n_kv_heads);
      const std::vector<float> q = f16.Query(position, head);
      const auto step = [](const auto& x) {
        double largest = 0;
        for (const auto value : x) largest = std::max(largest, std::fabs(double{value}));
        return largest / 127;
      };
      double score_error = 0;
      double value_error = 0;
      double largest_value = 0;
      for (int64_t p = 0; p <= position; ++p) {
        const std::vector<double>& k = f16.Row(false, kv_head, p);
        const std::vector<double>& v = f16.Row(true, kv_head, p);
        double variance = 0;
        for (size_t i = 0; i < k.size(); ++i) {
          variance += std::pow(q[i] * step(k), 2) / 12 + std::pow(k[i] * step(q), 2) / 12;
        }
        score_error =
            std::max(score_error, 6 * std::sqrt(variance / static_cast<double>(heads.head_dim)));
        value_error = std::max(value_error, 0.6 * step(v));  // f16 steps: a tenth more
        largest_value = std::max(largest_value, 127 * step(v));
      }
      const double allowed = value_error + std::expm1(2 * score_error) * largest_value;
      for (int64_t i = head * heads.head_dim; i < (head + 1) * heads.head_dim; ++i) {
        const auto at = static_cast<size_t>(i);
        ASSERT_NEAR(found[at], expected[at], allowed) << "head " << head;
      }
    }
  }
}

TEST(Q8Cache, AHeadThatIsNoMultipleOfABlockIsAnError) {
  const std::string message = MessageOf([] {
    HostKvCache(ConfigOf(kOddHeads), DType::kQ8_0, MakeKvLayout(ConfigOf(kOddHeads), 10));
  });
  EXPECT_THAT(message, ::testing::HasSubstr("the KV cache cannot be stored as Q8_0"));
  EXPECT_THAT(message, ::testing::HasSubstr("multiple of 32"));
  EXPECT_THAT(message, ::testing::HasSubstr("20"));
  EXPECT_THAT(message, ::testing::HasSubstr("store keys and values in f16"));
}

}  // namespace
}  // namespace thermocline
