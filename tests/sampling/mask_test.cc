// A sampler under a mask draws from what is allowed, as if there were nothing else.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <vector>

#include "runtime/core/error.h"
#include "runtime/sampling/token_mask.h"
#include "tests/sampling/distributions.h"

namespace thermocline {
namespace {

class SomeAllowed final : public TokenMask {
 public:
  explicit SomeAllowed(std::vector<int32_t> ids) : ids_(std::move(ids)) {}
  bool constrains() const override { return !ids_.empty(); }
  void Fill(std::span<uint32_t> allowed) override {
    std::ranges::fill(allowed, 0);
    for (const int32_t id : ids_) {
      allowed[static_cast<size_t>(id) / 32] |= 1U << (static_cast<uint32_t>(id) % 32);
    }
  }
  bool Allows(int32_t id) override { return std::ranges::find(ids_, id) != ids_.end(); }
  void Accept(int32_t) override {}
  std::unique_ptr<TokenMask> Clone() const override { return std::make_unique<SomeAllowed>(ids_); }

 private:
  std::vector<int32_t> ids_;
};

TEST(MaskedSampler, DrawsFromWhatIsAllowed) {
  std::vector<float> logits(100, 0.0F);
  logits[40] = static_cast<float>(std::log(2.0));
  logits[41] = 50;
  SomeAllowed mask({3, 40, 99});
  Sampler sampler(Plain());
  std::map<int32_t, int> counts;
  for (int i = 0; i < 20000; ++i) ++counts[sampler.Sample(logits, &mask)];
  ExpectDistribution(counts, {{3, 0.25}, {40, 0.5}, {99, 0.25}});
  SomeAllowed none({});
  EXPECT_EQ(sampler.Sample(logits, &none), 41);
}

TEST(MaskedSampler, NothingAllowedIsAnError) {
  std::vector<float> logits(40, 0.0F);
  logits[7] = -INFINITY;
  SomeAllowed mask({7});
  Sampler sampler(Plain());
  EXPECT_THROW(sampler.Sample(logits, &mask), Error);
}

// Either the best few decide, and then as all logits do, or the sampler says that they do not.
TEST(MaskedSampler, TheBestDecideOrSayThatTheyDoNot) {
  std::mt19937 random(11);
  int n_decided = 0;
  int n_undecided = 0;
  for (int round = 0; round < 300; ++round) {
    SamplerOptions options;
    options.top_k = 1 + static_cast<int32_t>(random() % 6);
    options.temperature = round % 3 == 0 ? 0.0F : 1.0F;
    options.seed = random();
    std::vector<float> logits(64);
    for (float& logit : logits) logit = static_cast<float>(random() % 1000) * 0.01F;
    std::vector<int32_t> ids;
    for (int32_t id = 0; id < 64; ++id) {
      if (random() % 3 == 0) ids.push_back(id);
    }
    SomeAllowed mask(ids);
    Sampler from_all(options);
    Sampler from_best(options);
    std::vector<TokenLogit> best;
    for (int32_t id = 0; id < 64; ++id) best.push_back({id, logits[static_cast<size_t>(id)]});
    std::ranges::stable_sort(best, std::ranges::greater(), &TokenLogit::logit);
    const int64_t n = from_all.n_deciding() + static_cast<int64_t>(random() % 16);
    best.resize(static_cast<size_t>(n));
    const std::optional<int32_t> id = from_best.SampleBest(best, n, &mask);
    ++(id ? n_decided : n_undecided);
    if (id) {
      EXPECT_EQ(*id, from_all.Sample(logits, &mask)) << "round " << round;
    }
  }
  EXPECT_GT(n_decided, 20);
  EXPECT_GT(n_undecided, 20);
}

}  // namespace
}  // namespace thermocline
