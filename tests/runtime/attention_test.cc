// Attention over long contexts against plain double arithmetic, and what must not change its bits:
// the number of lanes, how many tokens a step has, and where the cache keeps its positions.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <random>
#include <vector>

#include "runtime/cpu_device.h"
#include "tests/cpu_kernels/kernel_reference.h"
#include "tests/runtime/paged_kv_cache.h"
#include "tests/support/message_of.h"

namespace thermocline {
namespace {

using testing::AllowedError;
using testing::DecodeRow;
using testing::DotTolerance;
using testing::EffectiveActivations;
using testing::RandomFloats;

constexpr int64_t kMaxSeqLen = 700;  // chunks of 256
constexpr int64_t kLayer = 1;        // of two

struct Heads {
  int64_t n_heads;
  int64_t n_kv_heads;
  int64_t head_dim;
};

ModelConfig ConfigOf(const Heads& heads) {
  ModelConfig config;
  config.n_layers = 2;
  config.n_heads = heads.n_heads;
  config.n_kv_heads = heads.n_kv_heads;
  config.head_dim = heads.head_dim;
  config.d_model = heads.n_heads * heads.head_dim;
  config.d_ff = 32;
  config.max_seq_len = kMaxSeqLen;
  return config;
}

// A cache filled with random keys and values, and queries of the positions from `first` on.
class Attention {
 public:
  Attention(const Heads& heads, std::unique_ptr<KvCache> cache)
      : heads_(heads), cache_(std::move(cache)) {
    std::mt19937 rng(3);
    const int64_t n = cache_->max_seq_len();
    // Larger than they would be, so that the softmax has peaks and valleys.
    q_ = RandomFloats(&rng, n * heads.n_heads * heads.head_dim, 2.0F);
    k_ = RandomFloats(&rng, n * heads.n_kv_heads * heads.head_dim);
    v_ = RandomFloats(&rng, n * heads.n_kv_heads * heads.head_dim);
    cache_->Reserve(n);
    CpuDevice device("filling", Limits(n, 1));
    const RopeStep no_rope{RopePairing::kAdjacent, 0, nullptr, nullptr};
    std::vector<float> q = q_;
    std::vector<float> k = k_;
    device.RopeAppend(Lane{}, no_rope, *cache_, Step(0, n), q.data(), k.data(), v_.data());
  }

  // (n, n_heads, head_dim) of the tokens at positions first ....
  std::vector<float> Run(int64_t first, int64_t n, int n_lanes) const {
    CpuDevice device("tested", Limits(n, n_lanes));
    ThreadTeam team(n_lanes);
    LaneGroup* group = team.MakeGroup(n_lanes);
    std::vector<float> out(static_cast<size_t>(n * heads_.n_heads * heads_.head_dim), NAN);
    team.Run([&](int thread) {
      device.Attend(Lane{thread, n_lanes, group}, *cache_, Step(first, n),
                    q_.data() + first * heads_.n_heads * heads_.head_dim, out.data());
    });
    return out;
  }

  void ExpectMatchesDouble(int64_t first, int64_t n) const {
    const std::vector<float> out = Run(first, n, 2);
    for (int64_t t = 0; t < n; ++t) {
      for (int64_t head = 0; head < heads_.n_heads; ++head) {
        const int64_t at = (t * heads_.n_heads + head) * heads_.head_dim;
        ExpectHead(first + t, head, {out.begin() + at, out.begin() + at + heads_.head_dim});
      }
    }
  }

  std::vector<double> Row(bool value, int64_t kv_head, int64_t position) const {
    const KvRun run = cache_->RunAt(kLayer, kv_head, position);
    return DecodeRow(cache_->dtype(), value ? run.v : run.k, heads_.head_dim);
  }
  std::vector<float> Query(int64_t position, int64_t head) const {
    const auto at = q_.begin() + (position * heads_.n_heads + head) * heads_.head_dim;
    return {at, at + heads_.head_dim};
  }
  const Heads& heads() const { return heads_; }

 private:
  CpuDeviceLimits Limits(int64_t max_tokens, int n_lanes) const {
    return MakeCpuDeviceLimits(ConfigOf(heads_), max_tokens, cache_->max_seq_len(), n_lanes);
  }
  AttentionStep Step(int64_t first, int64_t n) const {
    return {kLayer, first, n, heads_.n_heads, heads_.n_kv_heads, heads_.head_dim};
  }

  // Against softmax(q k) v in double over what the cache holds and the query as its form stands
  // for.
  void ExpectHead(int64_t position, int64_t head, const std::vector<float>& out) const {
    const DType dtype = cache_->dtype();
    const VectorForm form = CpuKernels().vector_form(dtype);
    const std::vector<double> q = EffectiveActivations(form, Query(position, head));
    const int64_t kv_head = head / (heads_.n_heads / heads_.n_kv_heads);
    const double scale = 1 / std::sqrt(static_cast<double>(heads_.head_dim));
    std::vector<double> weights;
    double score_error = 0;
    for (int64_t p = 0; p <= position; ++p) {
      const std::vector<double> k = Row(false, kv_head, p);
      double score = 0;
      double magnitudes = 0;
      for (size_t i = 0; i < k.size(); ++i) {
        score += q[i] * k[i];
        magnitudes += std::fabs(q[i] * k[i]);
      }
      // The dot product's error, and the rounding of the scale, of score times scale, of the
      // difference to the largest score and of the chunks' largest to the largest of all.
      const double error =
          scale * AllowedError(DotTolerance(dtype, form), heads_.head_dim, magnitudes, score) +
          6 * 0x1p-24 * std::fabs(scale * score);
      score_error = std::max(score_error, error);
      weights.push_back(scale * score);
    }
    const double largest = *std::max_element(weights.begin(), weights.end());
    double sum = 0;
    for (double& weight : weights) sum += weight = std::exp(weight - largest);
    std::vector<double> reference(out.size(), 0.0);
    std::vector<double> magnitudes(out.size(), 0.0);
    for (int64_t p = 0; p <= position; ++p) {
      const std::vector<double> v = Row(true, kv_head, p);
      for (size_t i = 0; i < v.size(); ++i) {
        reference[i] += weights[static_cast<size_t>(p)] / sum * v[i];
        magnitudes[i] += weights[static_cast<size_t>(p)] / sum * std::fabs(v[i]);
      }
    }
    // An error of the scores moves weights and their sum by that share; a chunk sums up to 256
    // products, and twice an exponential is off by up to 3e-7.
    const double relative = 4 * score_error + 1e-6 + 0x1p-24 * 280;
    for (size_t i = 0; i < out.size(); ++i) {
      ASSERT_NEAR(out[i], reference[i], relative * magnitudes[i] + 1e-30)
          << "position " << position << ", head " << head << ", element " << i;
    }
  }

  Heads heads_;
  std::unique_ptr<KvCache> cache_;
  std::vector<float> q_;
  std::vector<float> k_;
  std::vector<float> v_;
};

Attention Contiguous(const Heads& heads, DType dtype, int64_t max_seq_len = kMaxSeqLen) {
  return {heads, std::make_unique<ContiguousKvCache>(ConfigOf(heads), dtype, max_seq_len)};
}
Attention Paged(const Heads& heads, DType dtype, int64_t page_tokens) {
  return {heads, std::make_unique<PagedKvCache>(ConfigOf(heads), dtype, kMaxSeqLen, page_tokens)};
}

// Grouped queries, a head per query head, one for all; the last with odd sizes, f16 only.
constexpr Heads kQ8Heads[] = {{6, 2, 64}, {3, 3, 32}, {5, 1, 96}};
constexpr Heads kOddHeads = {4, 2, 20};

struct Span {
  int64_t first;
  int64_t n;
};
// One token, the most that are still taken row by row, and batches; short contexts, long ones, and
// tokens on both sides of where a chunk ends.
constexpr Span kSpans[] = {{0, 1},   {0, 3},   {255, 1}, {256, 1}, {511, 3},
                           {510, 3}, {699, 1}, {0, 9},   {505, 12}};

class AttentionTest : public ::testing::TestWithParam<DType> {};

TEST_P(AttentionTest, MatchesDouble) {
  for (const Heads& heads : kQ8Heads) {
    const Attention attention = Contiguous(heads, GetParam());
    for (const auto& [first, n] : kSpans) attention.ExpectMatchesDouble(first, n);
  }
}

TEST_P(AttentionTest, BitsDependOnNeitherLanesNorTheTokensOfAStep) {
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

// A page's end changes no bit: rows are scored one by one, and values are summed in one chain.
TEST_P(AttentionTest, PagesGiveTheBitsOfAContiguousCache) {
  for (const Heads& heads : kQ8Heads) {
    const Attention contiguous = Contiguous(heads, GetParam());
    for (const int64_t page_tokens : {1, 7, 64, 300}) {
      const Attention paged = Paged(heads, GetParam(), page_tokens);
      for (const auto& [first, n] : kSpans) {
        EXPECT_EQ(paged.Run(first, n, 2), contiguous.Run(first, n, 2))
            << "pages of " << page_tokens << ", " << n << " tokens from " << first;
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

INSTANTIATE_TEST_SUITE_P(CacheTypes, AttentionTest, ::testing::Values(DType::kF16, DType::kQ8_0),
                         [](const auto& test) { return std::string(DTypeName(test.param)); });

TEST(OddHeadsAttention, MatchDoubleAndPagesChangeNoBit) {
  const Attention contiguous = Contiguous(kOddHeads, DType::kF16);
  const Attention paged = Paged(kOddHeads, DType::kF16, 7);
  for (const auto& [first, n] : kSpans) {
    contiguous.ExpectMatchesDouble(first, n);
    EXPECT_EQ(paged.Run(first, n, 3), contiguous.Run(first, n, 1));
  }
}

// How far 8 bit keys, values and queries may move the result: rounding is off by up to half a step,
// as good as evenly spread, so a score's error has a standard deviation to be had from the steps;
// six of them hold for all. e^(2 error) is what that does to a weight.
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
        const std::vector<double> k = f16.Row(false, kv_head, p);
        const std::vector<double> v = f16.Row(true, kv_head, p);
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
  const std::string message =
      MessageOf([] { ContiguousKvCache(ConfigOf(kOddHeads), DType::kQ8_0, 10); });
  EXPECT_THAT(message, ::testing::HasSubstr("the KV cache cannot be stored as Q8_0"));
  EXPECT_THAT(message, ::testing::HasSubstr("multiple of 32"));
  EXPECT_THAT(message, ::testing::HasSubstr("20"));
  EXPECT_THAT(message, ::testing::HasSubstr("--cache-type f16"));
}

}  // namespace
}  // namespace thermocline
