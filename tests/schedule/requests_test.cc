// What a request can ask for, and what it is told.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "runtime/core/error.h"
#include "tests/schedule/served.h"
#include "tests/support/message_of.h"
#include "tests/support/temp_dir.h"

namespace thermocline {
namespace {

using ::testing::HasSubstr;

TEST(Requests, WhatMakesNoSenseIsAnError) {
  Served served(SmallModel(2, 64), {.n_slots = 2, .max_waiting = 1});
  const auto error = [&](Request request) {
    return MessageOf([&] { served.Submit(std::move(request)); });
  };
  EXPECT_THAT(error(GreedyRequest({}, 1)), HasSubstr("the prompt: expected at least one token"));
  EXPECT_THAT(error(GreedyRequest({-1}, 1)), HasSubstr("a token of the prompt"));
  EXPECT_THAT(error(GreedyRequest({288}, 1)), HasSubstr("expected 0 to 287, found 288"));
  Request request = GreedyRequest({3}, 1);
  request.n = 0;
  EXPECT_THAT(error(request), HasSubstr("continuations"));
  request = GreedyRequest({3}, 1);
  request.slot = 2;
  EXPECT_THAT(error(request), HasSubstr("the slot: expected 0 to 1, found 2"));
  request = GreedyRequest({3}, 1);
  request.sampler.top_p = 2;
  EXPECT_THAT(error(request), HasSubstr("top-p"));
  try {
    served.Submit(GreedyRequest(PromptOf(1, 64), 1));
    ADD_FAILURE() << "a prompt that leaves no room was taken";
  } catch (const PromptTooLong& too_long) {
    EXPECT_EQ(too_long.n_prompt(), 64);
    EXPECT_EQ(too_long.n_context(), 64);
  }
  EXPECT_TRUE(served.scheduler.idle());
  for (int i = 0; i < 3; ++i) served.Submit(GreedyRequest({3}, 1));
  EXPECT_THROW(served.Submit(GreedyRequest({3}, 1)), QueueFull);
  served.RunAll();
  served.Submit(GreedyRequest({3}, 1));
}

TEST(Requests, ProgressBeginsWithWhatIsCachedAndEndsWithAll) {
  EngineOptions options = SmallModel(1);
  options.batch_tokens = 32;
  Served served(options, {.n_slots = 1});
  const auto first = served.Submit(GreedyRequest(PromptOf(1, 80), 2));
  served.RunAll();
  std::vector<int64_t> processed;
  for (const RunStats& stats : first->progress) processed.push_back(stats.processed_tokens);
  EXPECT_EQ(processed, (std::vector<int64_t>{0, 32, 64, 80}));
  const auto second = served.Submit(GreedyRequest(PromptOf(1, 80), 2));
  served.RunAll();
  ASSERT_EQ(second->progress.size(), 2U);
  EXPECT_EQ(second->progress[0].cached_tokens, 79);
  EXPECT_EQ(second->progress[1].processed_tokens, 1);
}

TEST(Requests, ProbabilitiesAreTheModelsOrTheSamplers) {
  Served served(SmallModel(1), {.n_slots = 1});
  Request request = GreedyRequest(PromptOf(1, 20), 3);
  request.sampler.logit_bias = {};
  request.n_probs = 5;
  Collector::Text text = served.Run(request);
  Engine alone(SmallModel(1));
  const std::span<const float> logits = alone.Feed(request.prompt);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
  EXPECT_NEAR(text.logprobs[0], logits[static_cast<size_t>(text.ids[0])] - std::log(sum), 2e-3);
  ASSERT_EQ(text.likeliest[0].size(), 5U);
  EXPECT_EQ(text.likeliest[0][0].id, text.ids[0]);
  EXPECT_TRUE(
      std::ranges::is_sorted(text.likeliest[0], std::ranges::greater(), &TokenProb::logprob));
  request.after_sampling = true;
  text = served.Run(request);
  ASSERT_EQ(text.likeliest[0].size(), 1U);  // greedy: it is certain
  EXPECT_EQ(text.likeliest[0][0].logprob, 0);
  request.sampler.temperature = 1;
  request.sampler.top_k = 3;
  request.sampler.top_p = 1;
  request.sampler.min_p = 0;
  text = served.Run(request);
  ASSERT_EQ(text.likeliest[0].size(), 3U);
  double all = 0;
  for (const TokenProb& prob : text.likeliest[0]) all += std::exp(prob.logprob);
  EXPECT_NEAR(all, 1, 1e-5);
}

TEST(Requests, AListenerAndATokenEndAText) {
  Served served(SmallModel(1), {.n_slots = 1});
  const auto collector = std::make_shared<Collector>();
  collector->stops_after = 4;
  served.scheduler.Submit(100, GreedyRequest(PromptOf(1, 20), 30), collector);
  served.RunAll();
  EXPECT_EQ(collector->texts[0].reason, EndReason::kStopped);
  EXPECT_EQ(collector->texts[0].ids.size(), 4U);
  Request request = GreedyRequest(PromptOf(1, 20), 30);
  request.ends = {collector->texts[0].ids[2]};
  const Collector::Text text = served.Run(request);
  EXPECT_EQ(text.reason, EndReason::kEndOfText);
  EXPECT_LE(text.ids.size(), 3U);
  EXPECT_EQ(text.ids.back(), request.ends[0]);
}

// Even and odd tokens by turns.
class EvenThenOdd final : public TokenMask {
 public:
  bool constrains() const override { return true; }
  void Fill(std::span<uint32_t> allowed) override {
    std::ranges::fill(allowed, odd_ ? 0xaaaaaaaaU : 0x55555555U);
  }
  bool Allows(int32_t id) override { return (id % 2 == 1) == odd_; }
  void Accept(int32_t id) override {
    EXPECT_TRUE(Allows(id));
    odd_ = !odd_;
  }
  std::unique_ptr<TokenMask> Clone() const override { return std::make_unique<EvenThenOdd>(*this); }

 private:
  bool odd_ = false;
};

TEST(Requests, EveryContinuationHasItsOwnMask) {
  Served served(SmallModel(2), {.n_slots = 2});
  Request request = GreedyRequest(PromptOf(1, 20), 9);
  request.mask = std::make_shared<EvenThenOdd>();
  request.n = 3;  // one more than there are slots
  request.sampler.temperature = 1;
  const auto collector = served.Submit(request);
  served.RunAll();
  ASSERT_EQ(collector->texts.size(), 3U);
  for (const auto& [index, text] : collector->texts) {
    EXPECT_EQ(text.reason, EndReason::kTokenLimit) << text.stats.error;
    for (size_t i = 0; i < text.ids.size(); ++i) {
      EXPECT_EQ(text.ids[i] % 2, static_cast<int32_t>(i % 2));
    }
  }
  EXPECT_NE(collector->texts[0].ids, collector->texts[1].ids);  // other seeds
}

TEST(Requests, EmbeddingsAreMeansOrTheLastHiddenState) {
  Served served(SmallModel(2), {.n_slots = 2});
  Request request;
  request.kind = RequestKind::kEmbed;
  request.prompt = PromptOf(1, 100);  // two pieces
  const auto mean = served.Submit(request);
  const auto text = served.Submit(GreedyRequest(PromptOf(2, 30), 8));  // beside it
  served.RunAll();
  EXPECT_EQ(text->texts[0].ids.size(), 8U);
  request.pooling = Pooling::kLast;
  const auto last = served.Submit(request);
  served.RunAll();
  EXPECT_EQ(last->texts[0].reason, EndReason::kEndOfText);

  Engine alone(SmallModel(1));
  const auto width = static_cast<size_t>(alone.config().d_model);
  std::vector<double> sum(width, 0);
  std::vector<float> final_state;
  for (const auto& piece :
       {std::span(request.prompt).first(64), std::span(request.prompt).subspan(64)}) {
    const auto hidden = alone.FeedHidden({.sequence = alone.main_sequence(), .ids = piece});
    ASSERT_EQ(hidden.size(), piece.size() * width);
    for (size_t i = 0; i < hidden.size(); ++i) sum[i % width] += static_cast<double>(hidden[i]);
    final_state.assign(hidden.end() - static_cast<ptrdiff_t>(width), hidden.end());
  }
  ASSERT_EQ(mean->embedding.size(), width);
  ASSERT_EQ(last->embedding.size(), width);
  for (size_t i = 0; i < width; ++i) {
    EXPECT_NEAR(mean->embedding[i], sum[i] / 100, 2e-2);
    EXPECT_NEAR(last->embedding[i], final_state[i], 2e-2);
  }
  // The head makes of it what Feed gives.
  const std::span<const float> logits = alone.Feed({&request.prompt[0], 1});
  EXPECT_TRUE(std::ranges::all_of(logits, [](float x) { return std::isfinite(x); }));
}

TEST(Requests, TextsOfAnotherSaltShareNothing) {
  Served served(SmallModel(2), {.n_slots = 2});
  Request request = GreedyRequest(PromptOf(1, 70), 3);
  request.cache_salt = "a";
  served.Run(request);
  request.cache_salt = "b";
  EXPECT_EQ(served.Run(request).stats.cached_tokens, 0);
  request.cache_salt = "a";
  EXPECT_EQ(served.Run(request).stats.cached_tokens, 69);
}

TEST(Requests, APrefixIsFoundWhateverSlotHadIt) {
  Served served(SmallModel(2), {.n_slots = 2});
  Request request = GreedyRequest(PromptOf(1, 70), 3);
  request.slot = 0;
  const Collector::Text first = served.Run(request);
  request.slot = 1;
  const Collector::Text second = served.Run(request);
  EXPECT_EQ(second.stats.cached_tokens, 64);  // whole pages
  EXPECT_EQ(second.ids, first.ids);
  EXPECT_EQ(served.scheduler.stats().prefix_pages_hit, 2);
  // What is erased is found nowhere.
  served.scheduler.EraseSlot(0);
  served.scheduler.EraseSlot(1);
  EXPECT_EQ(served.Run(request).stats.cached_tokens, 0);
}

class SlotFiles : public ::testing::Test {
 protected:
  SlotFiles() : path_(dir_.file("a.slot.gguf")) {
    Served served(SmallModel(2), {.n_slots = 2});
    Request request = GreedyRequest(PromptOf(1, 70), 5);
    request.slot = 0;
    served.Run(request);
    served.scheduler.SaveSlot(0, path_);
  }
  std::string ErrorOf(const EngineOptions& options, const std::string& path) {
    Served served(options, {.n_slots = 1});
    return MessageOf([&] { served.scheduler.RestoreSlot(0, path); });
  }

  TempDir dir_;
  std::string path_;
};

TEST_F(SlotFiles, AreOfOneModelAndOneKindOfCache) {
  EngineOptions options = SmallModel(1);
  options.model_path = std::string(THERMOCLINE_SOURCE_DIR) + "/tests/golden/mha_silu_tied.gguf";
  options.sparse = "auto";
  EXPECT_THAT(ErrorOf(options, path_), HasSubstr("the slot is of another model"));
  options = SmallModel(1);
  options.cache_type = DType::kF32;
  EXPECT_THAT(ErrorOf(options, path_), HasSubstr("another kind of KV cache"));
  EXPECT_THAT(ErrorOf(SmallModel(1, 64), path_), HasSubstr("1 to 64 tokens, the context"));
  EXPECT_THAT(ErrorOf(SmallModel(1), options.model_path), HasSubstr("not a slot file"));
  EXPECT_THAT(ErrorOf(SmallModel(1), dir_.file("none")), HasSubstr("none"));
}

// Any byte may be another, and the file may end anywhere: an error or a slot, and nothing else.
TEST_F(SlotFiles, HostileOnesAreErrors) {
  const std::string whole = ReadWholeFile(path_);
  const std::string broken = dir_.file("broken.slot.gguf");
  Served served(SmallModel(1), {.n_slots = 1});
  int n_errors = 0;
  for (size_t i = 0; i < 600; ++i) {
    std::string bytes = whole;
    if (i % 3 == 0) {
      bytes.resize(i * whole.size() / 600);
    } else {
      bytes[(i * 7919) % std::min<size_t>(whole.size(), 1500)] ^= static_cast<char>(1 << (i % 8));
    }
    WriteWholeFile(broken, bytes);
    try {
      served.scheduler.RestoreSlot(0, broken);
    } catch (const Error&) {
      ++n_errors;
    }
  }
  EXPECT_GT(n_errors, 200);
  // And everything works as before.
  EXPECT_EQ(served.Run(GreedyRequest(PromptOf(1, 20), 3)).reason, EndReason::kTokenLimit);
}

TEST_F(SlotFiles, OnlyWhoAsksForTheSlotBelievesThem) {
  Served served(SmallModel(2), {.n_slots = 2});
  served.scheduler.RestoreSlot(0, path_);
  Request request = GreedyRequest(PromptOf(1, 70), 3);
  EXPECT_EQ(served.Run(request).stats.cached_tokens, 0);
  served.scheduler.RestoreSlot(0, path_);
  request.slot = 0;
  EXPECT_EQ(served.Run(request).stats.cached_tokens, 69);
  Served other(SmallModel(2), {.n_slots = 2});
  other.scheduler.RestoreSlot(0, path_);
  EXPECT_EQ(other.Run(request).stats.cached_tokens, 69);
  request.slot = 1;  // no page of slot 0's got around
  EXPECT_EQ(other.Run(request).stats.cached_tokens, 0);
}

}  // namespace
}  // namespace thermocline
