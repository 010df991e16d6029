// Beam search apart from transformers' beams (family_golden_test.cc): one beam, tokens that end a
// continuation, and what it leaves of the cache.
#include "runtime/engine/beam_search.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace thermocline {
namespace {

constexpr int32_t kPrompt[] = {1, 17, 40, 99, 123};

class BeamSearchTest : public testing::Test {
 protected:
  static EngineOptions Options(int64_t n_sequences) {
    EngineOptions options;
    options.model_path = std::string(THERMOCLINE_SOURCE_DIR) + "/tests/golden/gqa_relu.gguf";
    options.fast_tier = FastTier::kCpu;
    options.n_threads = 2;
    options.n_sequences = n_sequences;
    options.context_tokens = 64;
    return options;
  }

  // Returns the sum of log p of a continuation, from whole passes.
  double LogProbability(const std::vector<int32_t>& ids) {
    engine_.Reset();
    std::vector<int32_t> text(std::begin(kPrompt), std::end(kPrompt));
    std::span<const float> logits = engine_.Feed(text);
    double total = 0;
    for (const int32_t id : ids) {
      double sum = 0;
      for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
      total += logits[static_cast<size_t>(id)] - std::log(sum);
      logits = engine_.Feed({&id, 1});
    }
    return total;
  }

  Engine engine_{Options(6)};
};

TEST_F(BeamSearchTest, OneBeamIsGreedy) {
  const std::vector<Beam> beams = SearchBeams(engine_, kPrompt, {.n_beams = 1, .max_tokens = 12});
  ASSERT_EQ(beams.size(), 1);
  engine_.Reset();
  std::span<const float> logits = engine_.Feed(kPrompt);
  for (const int32_t id : beams[0].ids) {
    EXPECT_EQ(id, std::ranges::max_element(logits) - logits.begin());
    logits = engine_.Feed({&id, 1});
  }
}

TEST_F(BeamSearchTest, ScoresAreThoseOfTheContinuations) {
  for (const double penalty : {0.0, 1.0, 2.0}) {
    const BeamOptions options = {.n_beams = 5, .max_tokens = 9, .length_penalty = penalty};
    const std::vector<Beam> beams = SearchBeams(engine_, kPrompt, options);
    ASSERT_EQ(beams.size(), 5);
    for (size_t i = 0; i < beams.size(); ++i) {
      EXPECT_EQ(beams[i].ids.size(), 9);
      EXPECT_NEAR(beams[i].score, LogProbability(beams[i].ids) / std::pow(9, penalty), 2e-3);
      if (i > 0) {
        EXPECT_LE(beams[i].score, beams[i - 1].score);
      }
    }
  }
}

// With a penalty of 0 a short continuation that ends early is the likelier one.
TEST_F(BeamSearchTest, TokensEndContinuations) {
  BeamOptions options = {.n_beams = 3, .max_tokens = 8, .length_penalty = 0};
  const int32_t first = SearchBeams(engine_, kPrompt, options)[0].ids[1];
  options.ends = {first};
  const std::vector<Beam> beams = SearchBeams(engine_, kPrompt, options);
  int64_t n_ended = 0;
  for (const Beam& beam : beams) {
    const auto end = std::ranges::find(beam.ids, first);
    if (end == beam.ids.end()) continue;
    EXPECT_EQ(end + 1, beam.ids.end()) << "a token behind the end";
    EXPECT_NEAR(beam.score, LogProbability(beam.ids), 2e-3);
    ++n_ended;
  }
  EXPECT_GT(n_ended, 0);
}

TEST_F(BeamSearchTest, LeavesThePromptInTheMainSequenceAndNoPageElse) {
  const int64_t n_free = engine_.sequences().pool().n_free();
  SearchBeams(engine_, kPrompt, {.n_beams = 5, .max_tokens = 40});
  EXPECT_EQ(engine_.n_past(), 5);
  engine_.Reset();
  EXPECT_EQ(engine_.sequences().pool().n_free(), n_free);
}

}  // namespace
}  // namespace thermocline
