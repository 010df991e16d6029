// Texts get the tokens that they get alone, whoever else runs, whatever they began with and however
// often they were sent away.
#include "runtime/schedule/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "runtime/engine/evaluate.h"
#include "tests/schedule/served.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

// Counts tokens at which texts part; from there on they are others. Greedy texts may part where the
// two best logits lie as close as rounding moves one.
struct Comparison {
  int64_t n_tokens = 0;
  int64_t n_parted = 0;
};

void Compare(const std::vector<int32_t>& found, const std::vector<int32_t>& expected,
             Comparison* comparison) {
  const auto parts = std::ranges::mismatch(found, expected);
  comparison->n_tokens += parts.in1 - found.begin();
  if (parts.in1 != found.end() || parts.in2 != expected.end()) ++comparison->n_parted;
}

std::vector<int32_t> Alone(const std::vector<int32_t>& prompt, int64_t max_tokens) {
  Served served(SmallModel(1), {.n_slots = 1});
  return served.Run(GreedyRequest(prompt, max_tokens)).ids;
}

TEST(Scheduler, OneTextAloneIsWhatTheEngineWrites) {
  Served served(SmallModel(1), {.n_slots = 1});
  const std::vector<int32_t> prompt = PromptOf(1, 40);
  const Collector::Text text = served.Run(GreedyRequest(prompt, 20));
  EXPECT_EQ(text.reason, EndReason::kTokenLimit);
  EXPECT_EQ(text.stats.prompt_tokens, 40);
  EXPECT_EQ(text.stats.processed_tokens, 40);
  EXPECT_EQ(text.stats.generated_tokens, 20);
  Engine alone(SmallModel(1));
  std::span<const float> logits = alone.Feed(prompt);
  for (const int32_t id : text.ids) {
    std::vector<float> allowed(logits.begin(), logits.end());
    allowed[kEndToken] = -1e30F;
    EXPECT_EQ(id, FindBest(allowed).id);
    logits = alone.Feed({&id, 1});
  }
}

TEST(Scheduler, ManyTextsGetTheTokensThatTheyGetAlone) {
  Served served(SmallModel(4), {.n_slots = 4});
  std::vector<std::shared_ptr<Collector>> all;
  for (int i = 0; i < 9; ++i) {
    all.push_back(served.Submit(GreedyRequest(PromptOf(i, 5 + 11 * static_cast<size_t>(i)), 24)));
  }
  served.RunAll();
  EXPECT_TRUE(served.scheduler.idle());
  Comparison comparison;
  for (int i = 0; i < 9; ++i) {
    const auto expected = Alone(PromptOf(i, 5 + 11 * static_cast<size_t>(i)), 24);
    Compare(all[static_cast<size_t>(i)]->texts[0].ids, expected, &comparison);
  }
  EXPECT_EQ(comparison.n_parted, 0) << "of " << comparison.n_tokens << " tokens";
}

TEST(Scheduler, APromptThatASlotHoldsIsNotReadAgain) {
  Served served(SmallModel(1), {.n_slots = 1});
  const std::vector<int32_t> prompt = PromptOf(2, 77);
  const Collector::Text first = served.Run(GreedyRequest(prompt, 8));
  EXPECT_EQ(first.stats.cached_tokens, 0);
  const Collector::Text second = served.Run(GreedyRequest(prompt, 8));
  EXPECT_EQ(second.stats.cached_tokens, 76);
  EXPECT_EQ(second.stats.processed_tokens, 1);
  EXPECT_EQ(second.ids, first.ids);
  std::vector<int32_t> other(prompt);
  other[51] = 2;
  EXPECT_EQ(served.Run(GreedyRequest(other, 8)).stats.cached_tokens, 51);
  Request fresh = GreedyRequest(other, 8);
  fresh.use_cache = false;
  EXPECT_EQ(served.Run(std::move(fresh)).stats.cached_tokens, 0);
}

TEST(Scheduler, TheFullContextEndsATextOrShifts) {
  Served served(SmallModel(1, 64), {.n_slots = 1});
  Collector::Text text = served.Run(GreedyRequest(PromptOf(1, 8), -1));
  EXPECT_EQ(text.reason, EndReason::kContextFull);
  EXPECT_EQ(text.ids.size(), 56U);
  Request shifting = GreedyRequest(PromptOf(1, 40), 90);
  shifting.context_shift = true;
  text = served.Run(std::move(shifting));
  EXPECT_EQ(text.reason, EndReason::kTokenLimit);
  EXPECT_EQ(text.ids.size(), 90U);
  EXPECT_GE(text.stats.n_shifted, 2);
}

TEST(Scheduler, WhoFindsTooFewPagesIsReadAgainAndWritesTheSame) {
  EngineOptions options = SmallModel(4);
  options.kv_tokens = 192;  // six pages for four texts of up to three each
  Served served(options, {.n_slots = 4});
  std::vector<std::shared_ptr<Collector>> all;
  for (int i = 0; i < 4; ++i) all.push_back(served.Submit(GreedyRequest(PromptOf(i, 20), 70)));
  served.RunAll();
  EXPECT_GT(served.scheduler.stats().n_preempted, 0);
  Comparison comparison;
  for (int i = 0; i < 4; ++i) {
    const Collector::Text& text = all[static_cast<size_t>(i)]->texts[0];
    EXPECT_EQ(text.reason, EndReason::kTokenLimit);
    EXPECT_EQ(text.stats.prompt_tokens, 20);
    EXPECT_EQ(text.stats.processed_tokens, 20);
    Compare(text.ids, Alone(PromptOf(i, 20), 70), &comparison);
  }
  EXPECT_EQ(comparison.n_parted, 0) << "of " << comparison.n_tokens << " tokens";
}

// What a text had written goes through passes of few rows again, which give it the bits that it
// had.
TEST(Scheduler, WhoIsSentAwayGetsTheSameProbabilitiesToTheBit) {
  const auto request = [](int i) {
    Request made = GreedyRequest(PromptOf(i, 2), 90);
    made.n_probs = 0;
    return made;
  };
  for (const bool keeps_prefixes : {false, true}) {
    EngineOptions options = SmallModel(3);
    options.kv_tokens = 160;  // five pages for three texts of up to three each
    Served served(options, {.n_slots = 3, .keeps_prefixes = keeps_prefixes});
    std::vector<std::shared_ptr<Collector>> all;
    for (int i = 0; i < 3; ++i) all.push_back(served.Submit(request(i)));
    served.RunAll();
    const ScheduleStats stats = served.scheduler.stats();
    EXPECT_GT(stats.n_preempted, 0);
    EXPECT_GT(stats.tokens_again, 30);
    for (int i = 0; i < 3; ++i) {
      Served alone(SmallModel(1), {.n_slots = 1});
      const Collector::Text expected = alone.Run(request(i));
      const Collector::Text& found = all[static_cast<size_t>(i)]->texts[0];
      EXPECT_EQ(found.ids, expected.ids);
      EXPECT_EQ(found.logprobs, expected.logprobs);
    }
  }
}

// Who is sent away with much to be fed again, and who comes with a long prompt, both get on.
TEST(Scheduler, WhoIsFedAgainAndWhoReadsAPromptTakeTurns) {
  EngineOptions options = SmallModel(4);
  options.kv_tokens = 224;
  Served served(options, {.n_slots = 4, .keeps_prefixes = false});
  std::vector<std::shared_ptr<Collector>> all;
  for (int i = 0; i < 12; ++i) {
    all.push_back(
        served.Submit(GreedyRequest(PromptOf(i, i % 4 == 3 ? 100 : 2), i % 4 == 3 ? 4 : 90)));
  }
  int64_t n_steps = 0;
  while (served.scheduler.Step() && n_steps < 2000) ++n_steps;
  EXPECT_LT(n_steps, 2000);
  EXPECT_GT(served.scheduler.stats().n_preempted, 0);
  for (int i = 0; i < 12; ++i) {
    EXPECT_EQ(all[static_cast<size_t>(i)]->texts[0].reason, EndReason::kTokenLimit) << i;
  }
}

// Every page is the slot's, and the prefix cache has them, too: who goes on in the middle of one
// needs no page more.
TEST(Scheduler, APageThatOnlyTheCacheSharesIsNotCopiedWhereThereIsNone) {
  Served served(SmallModel(1), {.n_slots = 1});
  served.Run(GreedyRequest(PromptOf(1, 100), -1));
  std::vector<int32_t> other = PromptOf(1, 127);
  other[110] = 1;
  const Collector::Text text = served.Run(GreedyRequest(other, -1));
  EXPECT_EQ(text.stats.cached_tokens, 100);
  EXPECT_EQ(text.reason, EndReason::kContextFull);
  other[40] = 1;
  const Collector::Text third = served.Run(GreedyRequest(other, -1));
  EXPECT_EQ(third.stats.cached_tokens, 40);
  EXPECT_EQ(third.reason, EndReason::kContextFull);
}

TEST(Scheduler, ContinuationsShareTheirPrompt) {
  Served served(SmallModel(3), {.n_slots = 3});
  Request request = GreedyRequest(PromptOf(3, 50), 12);
  request.n = 3;
  const auto collector = served.Submit(std::move(request));
  served.RunAll();
  ASSERT_EQ(collector->texts.size(), 3U);
  EXPECT_EQ(served.scheduler.stats().prompt_tokens, 50);
  for (const auto& [index, text] : collector->texts) {
    EXPECT_TRUE(text.ended);
    EXPECT_EQ(text.ids, collector->texts[0].ids);
  }
}

TEST(Scheduler, WhoIsCancelledGivesHisPagesBackAtOnce) {
  Served served(SmallModel(2), {.n_slots = 2, .keeps_prefixes = false});
  const auto first = served.Submit(GreedyRequest(PromptOf(0, 100), -1));
  const auto second = served.Submit(GreedyRequest(PromptOf(1, 100), 5));
  served.scheduler.Step();
  served.scheduler.Cancel(1);
  EXPECT_EQ(first->texts[0].reason, EndReason::kCancelled);
  served.RunAll();
  EXPECT_EQ(second->texts[0].reason, EndReason::kTokenLimit);
  const PageCounts pages = served.scheduler.stats().pages[0];
  EXPECT_EQ(pages.n_free, pages.n_pages);
}

TEST(Scheduler, ASlotGoesToAFileAndComesBack) {
  const TempDir dir;
  const std::string path = dir.file("one.slot.gguf");
  Served served(SmallModel(2), {.n_slots = 2});
  Request request = GreedyRequest(PromptOf(4, 21), 64);
  request.slot = 1;
  const Collector::Text first = served.Run(request);
  const SlotFileResult saved = served.scheduler.SaveSlot(1, path);
  EXPECT_EQ(saved.n_tokens, 84);
  EXPECT_EQ(saved.n_bytes, std::filesystem::file_size(path));
  EXPECT_EQ(served.scheduler.RestoreSlot(0, path).n_tokens, 84);
  request.slot = 0;
  request.prompt.back() = 2;
  const Collector::Text from_file = served.Run(request);
  EXPECT_EQ(from_file.stats.cached_tokens, 20);
  Served fresh(SmallModel(2), {.n_slots = 2});
  EXPECT_EQ(from_file.ids, fresh.Run(request).ids);
}

}  // namespace
}  // namespace thermocline
