// Compares attention over long contexts with plain double arithmetic, and checks what must not
// change its bits: the number of lanes, how many tokens a pass has, and where the cache keeps its
// positions.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/device/attention_fixture.h"

namespace thermocline {
namespace {

struct Span {
  int64_t first;
  int64_t n;
};
// These are one token, the most that are still taken row by row, and batches; short contexts, long
// ones, and tokens on both sides of where a chunk ends.
constexpr Span kSpans[] = {{0, 1},   {0, 3},   {255, 1}, {256, 1}, {511, 3},
                           {510, 3}, {699, 1}, {0, 9},   {505, 12}};

class AttentionTest : public ::testing::TestWithParam<DType> {};

TEST_P(AttentionTest, MatchesDouble) {
  for (const Heads& heads : kQ8Heads) {
    const Attention attention = Contiguous(heads, GetParam());
    for (const auto& [first, n] : kSpans) attention.ExpectMatchesDouble(first, n);
  }
}

TEST_P(AttentionTest, BitsDependOnNeitherLanesNorTheTokensOfAPass) {
  for (const Heads& heads : kQ8Heads) {
    const Attention attention = Contiguous(heads, GetParam());
    const int64_t token_size = heads.n_heads * heads.head_dim;
    for (const auto& [first, n] : kSpans) {
      const std::vector<float> one = attention.Run(first, n, 1);
      for (int n_lanes = 2; n_lanes <= 5; ++n_lanes) {
        EXPECT_EQ(attention.Run(first, n, n_lanes), one) << n_lanes << " lanes";
      }
      for (int64_t t = 0; t < n; ++t) {
        const auto at = one.begin() + t * token_size;
        EXPECT_EQ(attention.Run(first + t, 1, 2), std::vector<float>(at, at + token_size))
            << "token " << t << " of " << n << " from " << first;
      }
    }
  }
}

// Prompts attend as panels: their tiles of queries end inside, at and behind a chunk's end.
constexpr Span kBatches[] = {{0, 16},    {0, 64},  {1, 65},   {200, 57},
                             {255, 130}, {0, 513}, {580, 120}};

TEST_P(AttentionTest, BatchesMatchDouble) {
  for (const Heads& heads : kQ8Heads) {
    const Attention attention = Contiguous(heads, GetParam());
    for (const auto& [first, n] : kBatches) attention.ExpectMatchesDouble(first, n);
  }
}

TEST_P(AttentionTest, BitsOfABatchDependOnNeitherLanesNorItsTokensNorPages) {
  for (const Heads& heads : kQ8Heads) {
    const Attention attention = Contiguous(heads, GetParam());
    const int64_t token_size = heads.n_heads * heads.head_dim;
    const std::vector<float> all = attention.Run(0, 600, 1);
    for (const auto& [first, n] : kBatches) {
      const auto at = all.begin() + first * token_size;
      const std::vector<float> expected(at, at + std::min(n, 600 - first) * token_size);
      std::vector<float> found = attention.Run(first, n, 3);
      found.resize(expected.size());
      EXPECT_EQ(found, expected) << n << " tokens from " << first;
    }
    for (const int64_t together : {1, 3}) {
      EXPECT_EQ(Paged(heads, GetParam(), together).Run(0, 600, 2), all)
          << "stretches of " << together << " pages";
    }
  }
}

// Checks rows against double, and that their bits depend on neither lanes nor the rows beside them.
void ExpectSpansMatchDoubleInEveryCut(const Attention& attention, const Heads& heads) {
  const int64_t token_size = heads.n_heads * heads.head_dim;
  for (const auto& [first, n] : kSpans) {
    attention.ExpectMatchesDouble(first, n);
    const std::vector<float> together = attention.Run(first, n, 3);
    EXPECT_EQ(attention.Run(first, n, 1), together);
    for (int64_t t = 0; t < n; ++t) {
      const auto at = together.begin() + t * token_size;
      EXPECT_EQ(attention.Run(first + t, 1, 2), std::vector<float>(at, at + token_size));
    }
  }
}

// Windows of one position, inside a chunk, as long as one, and over several; with and without a
// cap.
constexpr Heads kWindows[] = {{2, 1, 64, 1, 0, 0.3F},
                              {4, 2, 32, 7, 2.0F},
                              {2, 2, 64, 256, 0.5F},
                              {4, 1, 32, 300},
                              {2, 1, 32, 0, 5.0F, 0.7F}};

TEST_P(AttentionTest, WindowsAndCapsMatchDoubleAndChangeNoBitByLanesOrTokens) {
  for (const Heads& heads : kWindows) {
    const Attention attention = Contiguous(heads, GetParam());
    ExpectSpansMatchDoubleInEveryCut(attention, heads);
    for (const auto& [first, n] : {Span{1, 65}, Span{200, 90}}) {
      attention.ExpectMatchesDouble(first, n);
    }
  }
}

// Biases that end near the query, in another chunk, and nowhere in the context; positions before
// the row's own, and all of an encoder's text.
constexpr Heads kRelative[] = {{2, 2, 32, 0, 0, 1, 3},
                               {4, 2, 32, 0, 0, 0.7F, 300},
                               {3, 3, 32, 0, 0, 1, 40, true},
                               {2, 1, 64, 0, 5.0F, 0, 900, true},
                               {6, 2, 64, 0, 0, 0, 0, true}};

TEST_P(AttentionTest, BiasesAndEncodersTextsMatchDoubleAndChangeNoBitByLanesOrTokens) {
  for (const Heads& heads : kRelative) {
    const Attention attention = Contiguous(heads, GetParam());
    ExpectSpansMatchDoubleInEveryCut(attention, heads);
    for (const auto& [first, n] : {Span{1, 65}, Span{200, 90}}) {
      attention.ExpectMatchesDouble(first, n);
      EXPECT_EQ(Paged(heads, GetParam(), 3).Run(first, n, 2), attention.Run(first, n, 1));
    }
  }
}

// A page's end changes no bit: rows are scored one by one, and values are summed in one chain.
TEST_P(AttentionTest, PagesGiveTheBitsOfAContiguousCache) {
  for (const Heads& heads : kQ8Heads) {
    const Attention contiguous = Contiguous(heads, GetParam());
    for (const int64_t together : {1, 2, 7}) {
      const Attention paged = Paged(heads, GetParam(), together);
      for (const auto& [first, n] : kSpans) {
        EXPECT_EQ(paged.Run(first, n, 2), contiguous.Run(first, n, 2))
            << "stretches of " << together << " pages, " << n << " tokens from " << first;
      }
    }
  }
}

// Chunks grow where a context would have more than 64.
TEST_P(AttentionTest, ChunksOfVeryLongContexts) {
  const CpuDeviceLimits limits = MakeCpuDeviceLimits(ConfigOf({2, 1, 32}), 1, 20'000, 1);
  ASSERT_EQ(limits.KvChunk(), 320);
  const Attention attention = Contiguous({2, 1, 32}, GetParam(), 20'000);
  attention.ExpectMatchesDouble(19'999, 1);
  EXPECT_EQ(attention.Run(19'998, 2, 3), attention.Run(19'998, 2, 1));
}

INSTANTIATE_TEST_SUITE_P(CacheTypes, AttentionTest,
                         ::testing::Values(DType::kF32, DType::kF16, DType::kQ8_0),
                         [](const auto& test) { return std::string(DTypeName(test.param)); });

TEST(OddHeadsAttention, MatchDoubleAndPagesChangeNoBit) {
  const Attention contiguous = Contiguous(kOddHeads, DType::kF16);
  const Attention paged = Paged(kOddHeads, DType::kF16, 2);
  for (const auto& [first, n] : kSpans) {
    contiguous.ExpectMatchesDouble(first, n);
    EXPECT_EQ(paged.Run(first, n, 3), contiguous.Run(first, n, 1));
  }
}

}  // namespace
}  // namespace thermocline
