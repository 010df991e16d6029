// The generation loop on a tiny model: where it stops, and how a conversation goes on.
#include "runtime/engine/generate.h"

#include <gtest/gtest.h>

#include <numeric>

#include "runtime/core/error.h"
#include "runtime/core/interrupt.h"
#include "runtime/timing/pass_profile.h"
#include "tests/tools/models.h"

namespace thermocline {
namespace {

class GenerateTest : public testing::Test {
 protected:
  static EngineOptions Options(int64_t context_tokens) {
    EngineOptions options;
    options.model_path = GoldenModel("gqa_relu");
    options.context_tokens = context_tokens;
    options.batch_tokens = 8;
    options.n_threads = 1;
    return options;
  }
  // Bytes of text that may be half a character do not compare well: ids would be better, but text
  // is what the sink gets, and cuts show as U+FFFD only at the end of a reply.
  std::string Continue(Generator& generator, const std::string& text, int64_t max_tokens) {
    std::string reply;
    last_ = generator.Continue(text.empty() ? std::vector<int32_t>{} : generator.Encode(text),
                               max_tokens, [&](std::string_view piece) { reply += piece; });
    return reply;
  }
  void TearDown() override { ClearInterrupt(); }

  Generation last_;
};

// What can be told from the vocabulary and the dimensions is told before gigabytes are read.
TEST_F(GenerateTest, WeightsAreNotReadBeforeTheEngineIsMade) {
  EngineOptions options = Options(64);
  bool reads = false;
  options.progress = [&](const std::string&, uint64_t, uint64_t) { reads = true; };
  auto model = std::make_unique<OpenedModel>(options);
  EXPECT_EQ(model->context_tokens(), 64);
  EXPECT_FALSE(model->tokenizer().Encode("Hello").empty());
  EXPECT_FALSE(reads);
  const Engine engine(std::move(model));
  EXPECT_TRUE(reads);
}

TEST_F(GenerateTest, WarmingUpLeavesNothingBehind) {
  std::string texts[2];
  for (const bool warms_up : {false, true}) {
    Engine engine(Options(12));  // less than a warm-up would take
    if (warms_up) engine.WarmUp();
    EXPECT_EQ(engine.n_past(), 0);
    EXPECT_EQ(engine.executor().counts().tokens, 0);
    Generator generator(engine, {.temperature = 0});
    texts[warms_up ? 1 : 0] = Continue(generator, "Hi", 6);
    EXPECT_EQ(last_.generated_tokens, 6);
  }
  EXPECT_EQ(texts[0], texts[1]);
}

TEST_F(GenerateTest, CountsTokensAndPasses) {
  Engine engine(Options(64));
  Generator generator(engine, {.temperature = 0});
  Continue(generator, "Hello there", 10);
  EXPECT_EQ(last_.stop, StopReason::kTokenLimit);
  EXPECT_EQ(last_.generated_tokens, 10);
  EXPECT_EQ(last_.decode_passes, 9);
  EXPECT_EQ(engine.n_past(), last_.prompt_tokens + 9);
  EXPECT_TRUE(generator.can_go_on());
}

TEST_F(GenerateTest, StopsWhenTheContextIsFull) {
  Engine engine(Options(20));
  Generator generator(engine, {.temperature = 0});
  Continue(generator, "Hello", -1);
  EXPECT_EQ(last_.stop, StopReason::kContextFull);
  EXPECT_EQ(engine.n_past(), 20);
  EXPECT_EQ(last_.prompt_tokens + last_.generated_tokens, 21) << "the last one is not read back";
  EXPECT_EQ(generator.room_tokens(), 0);
  EXPECT_THROW(Continue(generator, "", 1), Error);
  generator.Reset();
  EXPECT_EQ(generator.room_tokens(), 20);
}

TEST_F(GenerateTest, PromptMayFillTheContextAndNotMore) {
  Engine engine(Options(12));
  Generator generator(engine, {.temperature = 0});
  std::vector<int32_t> ids(12, 100);
  const auto ignore = [](std::string_view) {};
  const Generation full = generator.Continue(ids, -1, ignore);
  EXPECT_EQ(full.generated_tokens, 1);
  EXPECT_EQ(full.stop, StopReason::kContextFull);
  generator.Reset();
  ids.push_back(100);
  EXPECT_THROW(generator.Continue(ids, -1, ignore), Error);
  EXPECT_EQ(engine.n_past(), 0);
}

TEST_F(GenerateTest, InterruptedWhileReadingLeavesTheConversationAsItWas) {
  Engine engine(Options(64));
  Generator generator(engine, {.temperature = 0});
  Continue(generator, "Hello", 4);
  const int64_t n_past = engine.n_past();
  RequestInterrupt();
  Continue(generator, "a longer line that takes several batches", 4);
  EXPECT_EQ(last_.stop, StopReason::kInterrupted);
  EXPECT_EQ(last_.prompt_tokens, 0);
  EXPECT_EQ(engine.n_past(), n_past);
  EXPECT_TRUE(generator.can_go_on());
  ClearInterrupt();
  Continue(generator, "", 4);
  EXPECT_EQ(last_.generated_tokens, 4);
}

// Reading is told batch by batch, and only the last batch ends in logits.
TEST_F(GenerateTest, APromptOfSeveralBatchesComputesTheOutputHeadOnce) {
  std::vector<uint64_t> told;
  EngineOptions options = Options(64);
  options.progress = [&](const std::string& label, uint64_t done, uint64_t total) {
    if (!label.starts_with("reading the prompt")) return;
    EXPECT_EQ(total, 20U);
    told.push_back(done);
  };
  Engine engine(options);
  Generator generator(engine, {.temperature = 0});
  PassProfile profile(1, 100'000);
  engine.executor().set_profile(&profile);
  const std::vector<int32_t> ids(20, 100);
  const Generation generation = generator.Continue(ids, 1, [](std::string_view) {});
  engine.executor().set_profile(nullptr);
  EXPECT_EQ(generation.prompt_tokens, 20);
  EXPECT_EQ(told, (std::vector<uint64_t>{0, 8, 16, 20}));
  EXPECT_EQ(profile.passes(), 3);
  int64_t n_heads = 0;
  for (const PassSpan& span : profile.thread_spans(0)) n_heads += span.part == PassPart::kHead;
  EXPECT_EQ(n_heads, 1);
}

TEST_F(GenerateTest, InterruptedBetweenBatchesForgetsTheFirst) {
  EngineOptions options = Options(64);
  bool interrupt = false;
  options.progress = [&](const std::string&, uint64_t done, uint64_t) {
    if (interrupt && done == 8) RequestInterrupt();
  };
  Engine engine(options);
  Generator generator(engine, {.temperature = 0});
  interrupt = true;
  const std::vector<int32_t> ids(20, 100);
  const Generation generation = generator.Continue(ids, 1, [](std::string_view) {});
  EXPECT_EQ(generation.stop, StopReason::kInterrupted);
  EXPECT_EQ(engine.n_past(), 0);
}

TEST_F(GenerateTest, SameSeedSameConversation) {
  Engine engine(Options(100));
  Generator generator(engine, {.temperature = 1, .repeat_penalty = 1.2F, .seed = 5});
  const auto talk = [&] {
    const std::string first = Continue(generator, "Hello", 12);
    return first + "|" + Continue(generator, "and then", 12);
  };
  const std::string once = talk();
  generator.Reset();
  EXPECT_EQ(talk(), once);
}

// What a chat does between two turns: the same text again, with more behind it or another end.
TEST_F(GenerateTest, ContinueFromFeedsOnlyWhatTheCacheDoesNotHold) {
  Engine engine(Options(100));
  Generator generator(engine, {.temperature = 0, .repeat_penalty = 1.3F});
  std::string reply;
  const auto collect = [&](std::string_view piece) { reply += piece; };
  std::vector<int32_t> ids = {1, 100, 101, 102, 103, 104};
  const Generation first = generator.ContinueFrom(ids, 5, collect);
  EXPECT_EQ(first.prompt_tokens, 6);
  EXPECT_EQ(first.kept_tokens, 0);
  EXPECT_EQ(engine.n_past(), 10) << "the last token is not read back";

  ids[4] = 200;
  ids.push_back(105);
  reply.clear();
  const Generation second = generator.ContinueFrom(ids, 5, collect);
  EXPECT_EQ(second.kept_tokens, 4);
  EXPECT_EQ(second.prompt_tokens, 3);
  const std::string reused = reply;

  const Generation again = generator.ContinueFrom(ids, 5, collect);
  EXPECT_EQ(again.kept_tokens, 6) << "the last one is fed for its logits";
  EXPECT_EQ(again.prompt_tokens, 1);
  EXPECT_EQ(reply, reused + reused);

  Engine fresh_engine(Options(100));
  Generator fresh(fresh_engine, {.temperature = 0, .repeat_penalty = 1.3F});
  reply.clear();
  EXPECT_EQ(fresh.ContinueFrom(ids, 5, collect).prompt_tokens, 7);
  EXPECT_EQ(reply, reused);
}

TEST_F(GenerateTest, ContinueFromAfterAReplyThatWasCutOff) {
  Engine engine(Options(64));
  Generator generator(engine, {.temperature = 0});
  const auto ignore = [](std::string_view) {};
  const std::vector<int32_t> ids(10, 100);
  generator.ContinueFrom(ids, 4, ignore);
  RequestInterrupt();
  const std::vector<int32_t> other(30, 101);
  EXPECT_EQ(generator.ContinueFrom(other, 4, ignore).stop, StopReason::kInterrupted);
  ClearInterrupt();
  EXPECT_EQ(engine.n_past(), 0);
  EXPECT_FALSE(generator.can_go_on());
  EXPECT_EQ(generator.ContinueFrom(ids, 4, ignore).prompt_tokens, 10);
  EXPECT_THROW(generator.ContinueFrom(std::vector<int32_t>(65, 100), 4, ignore), Error);
  EXPECT_TRUE(generator.can_go_on()) << "nothing has changed";
}

TEST_F(GenerateTest, FurtherEndsEndAReply) {
  Engine engine(Options(64));
  Generator generator(engine, {.temperature = 0});
  const auto ignore = [](std::string_view) {};
  const std::vector<int32_t> ids(10, 100);
  ASSERT_EQ(generator.ContinueFrom(ids, 1, ignore).generated_tokens, 1);
  std::vector<int32_t> all(static_cast<size_t>(engine.tokenizer().vocab_size()));
  std::iota(all.begin(), all.end(), 0);
  generator.EndAlsoAt(all);
  const Generation ended = generator.ContinueFrom(ids, 4, ignore);
  EXPECT_EQ(ended.stop, StopReason::kEndOfText);
  EXPECT_EQ(ended.generated_tokens, 0);
}

TEST_F(GenerateTest, TotalsAddUp) {
  Generation total;
  total += {StopReason::kTokenLimit, 3, 10, 9, 1.0, 2.0};
  total += {StopReason::kContextFull, 4, 5, 5, 0.5, 1.0};
  EXPECT_EQ(total.stop, StopReason::kContextFull);
  EXPECT_EQ(total.prompt_tokens, 7);
  EXPECT_EQ(total.generated_tokens, 15);
  EXPECT_EQ(total.decode_passes, 14);
  EXPECT_DOUBLE_EQ(total.prefill_ms, 1.5);
}

}  // namespace
}  // namespace thermocline
