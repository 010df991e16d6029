// Turns of a chat with the embedded model: what is fed, what stays, and that it is the same text as
// without a cache.
#include "runtime/chat/chat.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/core/interrupt.h"
#include "tests/support/message_of.h"
#include "tests/tools/models.h"

namespace thermocline {
namespace {

using testing::HasSubstr;

// Plain text, since the model knows no control tokens.
constexpr const char* kPlainChat =
    "{% for m in messages %}{{ m.role }}:{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}";
constexpr int64_t kReplyTokens = 12;

// An engine with a chat on it.
struct TestChat {
  explicit TestChat(int64_t context_tokens = 256)
      : engine(Options(context_tokens)),
        generator(engine, {.temperature = 0}),
        format({.source = kPlainChat, .name = "plain"}, engine.tokenizer()),
        chat(generator, format) {}
  static EngineOptions Options(int64_t context_tokens) {
    EngineOptions options;
    options.model_path = DemoModel();
    options.context_tokens = context_tokens;
    options.n_threads = 1;
    return options;
  }
  Generation Say(const std::string& text) {
    reply.clear();
    return chat.Say(text, kReplyTokens, sink);
  }

  Engine engine;
  Generator generator;
  ChatFormat format;
  Chat chat;
  std::string reply;
  Generator::TextSink sink = [this](std::string_view text) { reply += text; };
};

class ChatTest : public testing::Test {
 protected:
  void TearDown() override { ClearInterrupt(); }
};

TEST_F(ChatTest, ASecondTurnFeedsOnlyWhatIsNew) {
  TestChat cached;
  const Generation first = cached.Say("The captain looked at the sea.");
  EXPECT_EQ(first.kept_tokens, 0);
  ASSERT_EQ(first.generated_tokens, kReplyTokens);
  const int64_t n_cached = cached.engine.n_past();
  const Generation second = cached.Say("And the ship?");

  // The prompt of the second turn, counted by itself.
  Conversation until_then = cached.chat.conversation();
  until_then.RewindToUser();
  const auto n_prompt = static_cast<int64_t>(cached.format.Encode(until_then).size());
  EXPECT_EQ(second.kept_tokens + second.prompt_tokens, n_prompt);
  EXPECT_EQ(second.kept_tokens, n_cached) << "all of the first turn";
  EXPECT_LT(second.prompt_tokens, 30);

  TestChat fresh;
  fresh.chat.set_conversation(until_then);
  const Generation whole = fresh.chat.ReplyAgain(kReplyTokens, fresh.sink);
  EXPECT_EQ(whole.prompt_tokens, n_prompt);
  EXPECT_EQ(fresh.reply, cached.reply);
}

TEST_F(ChatTest, LogitsAfterAKeptBeginningAreThoseOfTheWhole) {
  TestChat cached;
  cached.Say("The captain looked at the sea.");
  TestChat fresh;
  const std::vector<int32_t> whole = cached.format.Encode(cached.chat.conversation());
  const auto n_kept = static_cast<size_t>(cached.engine.n_past()) / 2;
  cached.engine.Truncate(static_cast<int64_t>(n_kept));
  const auto after_kept = cached.engine.Feed(std::span(whole).subspan(n_kept));
  const auto after_all = fresh.engine.Feed(whole);
  ASSERT_EQ(after_kept.size(), after_all.size());
  for (size_t i = 0; i < after_all.size(); ++i) {
    EXPECT_NEAR(after_kept[i], after_all[i], 0.05) << i;
  }
}

TEST_F(ChatTest, AnotherReplyAndAnotherMessageTakeTheOldOnesPlace) {
  TestChat test;
  EXPECT_FALSE(test.chat.can_reply());
  test.Say("The captain looked at the sea.");
  test.reply.clear();
  const Generation again = test.chat.ReplyAgain(kReplyTokens, test.sink);
  // Not always the text of before: a pass of one token rounds otherwise than the prompt's.
  EXPECT_EQ(test.chat.conversation().last_text(), test.reply);
  EXPECT_EQ(again.prompt_tokens, 1);
  EXPECT_EQ(test.chat.conversation().n_turns(), 2U);

  test.chat.SayInstead("The old house", kReplyTokens, test.sink);
  EXPECT_EQ(test.chat.conversation().n_turns(), 2U);
  EXPECT_EQ(test.chat.last_user_text(), "The old house");
}

TEST_F(ChatTest, AReplyThatWasCutOffGoesOn) {
  TestChat test;
  test.Say("The captain looked at the sea.");
  ASSERT_TRUE(test.chat.can_go_on());
  test.chat.GoOn(kReplyTokens, test.sink);
  EXPECT_EQ(test.chat.conversation().last_text(), test.reply);
  TestChat longer;
  longer.chat.Say("The captain looked at the sea.", 2 * kReplyTokens, longer.sink);
  EXPECT_EQ(test.reply, longer.reply);
  test.chat.set_system("Be brief.");
  EXPECT_FALSE(test.chat.can_go_on()) << "the conversation is another one";
}

TEST_F(ChatTest, WhatWasWrittenOfAReplyStaysWhenItIsStopped) {
  TestChat test;
  const auto stop = [&](std::string_view text) {
    test.reply += text;
    RequestInterrupt();
  };
  EXPECT_EQ(test.chat.Say("The captain", -1, stop).stop, StopReason::kInterrupted);
  ClearInterrupt();
  EXPECT_EQ(test.chat.conversation().n_turns(), 2U);
  EXPECT_EQ(test.chat.conversation().last_text(), test.reply);
  EXPECT_TRUE(test.chat.can_go_on());

  RequestInterrupt();
  EXPECT_EQ(test.Say("A message that nobody reads").prompt_tokens, 0);
  ClearInterrupt();
  EXPECT_EQ(test.chat.conversation().n_turns(), 2U) << "taken back";
  EXPECT_EQ(test.Say("The ship").stop, StopReason::kTokenLimit);
  EXPECT_EQ(test.chat.conversation().n_turns(), 4U);
}

TEST_F(ChatTest, AMessageThatDoesNotFitIsTakenBack) {
  TestChat test(64);
  test.Say("The captain looked at the sea.");
  std::string longer;
  for (int i = 0; i < 40; ++i) longer += "the sea ";
  EXPECT_THAT(MessageOf([&] { test.Say(longer); }),
              HasSubstr("the conversation is longer than the context: expected at most 64 tokens"));
  EXPECT_EQ(test.chat.conversation().n_turns(), 2U);
  EXPECT_EQ(test.Say("Yes?").stop, StopReason::kTokenLimit);
}

TEST_F(ChatTest, ResetKeepsWhatTheSystemSays) {
  TestChat test;
  test.chat.set_system("Be brief.");
  test.Say("The captain");
  const std::string first = test.reply;
  test.chat.Reset();
  EXPECT_EQ(test.chat.used_tokens(), 0);
  EXPECT_EQ(test.Say("The captain").kept_tokens, 0);
  EXPECT_EQ(test.reply, first);
  EXPECT_EQ(test.chat.conversation().system(), "Be brief.");
}

}  // namespace
}  // namespace thermocline
