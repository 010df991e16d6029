// What lowers or raises single tokens: penalties, DRY, biases.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <unordered_set>
#include <vector>

#include "runtime/core/error.h"
#include "runtime/sampling/text_penalties.h"
#include "tests/sampling/distributions.h"

namespace thermocline {
namespace {

constexpr float kInfinite = std::numeric_limits<float>::infinity();

TEST(Penalties, PresenceCountsOnceAndFrequencyEveryTime) {
  SamplerOptions options = Plain();
  options.presence_penalty = static_cast<float>(std::log(2.0));
  options.frequency_penalty = static_cast<float>(std::log(3.0));
  const std::vector<double> p = {0.4, 0.3, 0.2, 0.1};
  const double total = 0.4 / 6 + 0.3 / 18 + 0.2 + 0.1;
  ExpectDistribution(
      DrawMany(options, LogitsOf(p), 20000, {1, 0, 1}),
      {{0, 0.4 / 6 / total}, {1, 0.3 / 18 / total}, {2, 0.2 / total}, {3, 0.1 / total}});
  // A negative one makes repetition likelier.
  options.presence_penalty = -static_cast<float>(std::log(4.0));
  options.frequency_penalty = 0;
  ExpectDistribution(DrawMany(options, LogitsOf(p), 20000, {3, 3}),
                     {{0, 0.4 / 1.3}, {1, 0.3 / 1.3}, {2, 0.2 / 1.3}, {3, 0.4 / 1.3}});
}

// The definition, word for word: for every earlier place where the text's last token stands, how
// far the stretch before it is that before the text's end.
std::map<int32_t, int64_t> RepetitionsByHand(const std::vector<int32_t>& text,
                                             const std::unordered_set<int32_t>& breakers) {
  std::map<int32_t, int64_t> longest;
  if (text.empty() || breakers.contains(text.back())) return longest;
  for (size_t i = 0; i + 1 < text.size(); ++i) {
    const int32_t next = text[i + 1];
    if (text[i] != text.back() || breakers.contains(next)) continue;
    int64_t length = 1;
    while (static_cast<size_t>(length) <= i) {
      const int32_t earlier = text[i - static_cast<size_t>(length)];
      if (earlier != text[text.size() - 1 - static_cast<size_t>(length)]) break;
      if (breakers.contains(earlier)) break;
      ++length;
    }
    longest[next] = std::max(longest[next], length);
  }
  return longest;
}

TEST(Dry, FindsTheLongestRepetitions) {
  std::mt19937 random(5);
  for (int round = 0; round < 500; ++round) {
    std::vector<int32_t> text(random() % 60);
    for (int32_t& id : text) id = static_cast<int32_t>(random() % 4);
    std::unordered_set<int32_t> breakers;
    if (round % 3 == 0) breakers.insert(3);
    std::map<int32_t, int64_t> found;
    for (const Repetition& r : FindRepetitions(text, breakers)) found[r.next] = r.length;
    ASSERT_EQ(found, RepetitionsByHand(text, breakers)) << "round " << round;
  }
}

TEST(Dry, LowersWhatWouldGoOnWithARepetition) {
  SamplerOptions options = Plain();
  options.dry_multiplier = static_cast<float>(std::log(2.0));
  options.dry_base = 2;
  options.dry_allowed_length = 2;
  const std::vector<double> p = {0.25, 0.25, 0.25, 0.25};
  // "0 1 2 3 ... 0 1 2": three tokens repeat, and 3 went on: 2^1 times the multiplier.
  const double lowered = 0.25 / 4;
  const double total = 0.75 + lowered;
  const std::map<int32_t, double> expected = {
      {0, 0.25 / total}, {1, 0.25 / total}, {2, 0.25 / total}, {3, lowered / total}};
  const std::vector<int32_t> text = {0, 1, 2, 3, 9, 0, 1, 2};
  ExpectDistribution(DrawMany(options, LogitsOf(p), 20000, text), expected);
  const std::map<int32_t, double> even = {{0, 0.25}, {1, 0.25}, {2, 0.25}, {3, 0.25}};
  options.dry_allowed_length = 4;
  ExpectDistribution(DrawMany(options, LogitsOf(p), 20000, text), even);
  options.dry_allowed_length = 2;
  options.dry_breakers = {2};
  ExpectDistribution(DrawMany(options, LogitsOf(p), 20000, text), even);
  options.dry_breakers = {};
  options.dry_last_n = 4;  // the first stretch is out of sight
  ExpectDistribution(DrawMany(options, LogitsOf(p), 20000, text), even);
  options.dry_last_n = 8;
  ExpectDistribution(DrawMany(options, LogitsOf(p), 20000, text), expected);
}

TEST(Dry, AHugePenaltyForbidsNothingForEver) {
  SamplerOptions options = Plain();
  options.dry_multiplier = 1e30F;
  options.dry_base = 1e30F;
  const std::vector<int32_t> text(400, 0);
  ExpectDistribution(DrawMany(options, {0, 0}, 100, text), {{1, 1.0}});
  ExpectDistribution(DrawMany(options, {0}, 100, text), {{0, 1.0}});
}

TEST(LogitBias, IsAddedFirstAndForbids) {
  SamplerOptions options = Plain();
  options.logit_bias = {{0, static_cast<float>(std::log(2.0))}, {2, -kInfinite}, {99, 5}, {-3, 5}};
  ExpectDistribution(DrawMany(options, LogitsOf({0.2, 0.4, 0.4}), 20000), {{0, 0.5}, {1, 0.5}});
  options.temperature = 0;
  EXPECT_EQ(Sampler(options).Sample(LogitsOf({0.2, 0.3, 0.5})), 0);
  options.logit_bias = {{0, -kInfinite}, {1, -kInfinite}};
  EXPECT_THROW(Sampler(options).Sample(std::vector<float>{1, 2}), Error);
}

TEST(LogitBias, BoundsHowManyDecide) {
  SamplerOptions options;
  options.top_k = 5;
  options.logit_bias = {{0, -1}, {1, -kInfinite}};
  EXPECT_EQ(Sampler(options).n_deciding(), 5 + 1 + 2);
  options.logit_bias.push_back({3, 0.5F});
  EXPECT_EQ(Sampler(options).n_deciding(), 0);
}

}  // namespace
}  // namespace thermocline
