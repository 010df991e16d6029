// Conversations as files give them, and what is refused with which words.
#include "runtime/chat/conversation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/message_of.h"

namespace thermocline {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

TEST(ConversationTest, ComesBackFromJson) {
  Conversation conversation;
  conversation.set_system("Be kind.");
  conversation.Add("user", "\"Grüße\"\n\x01");
  conversation.Add("assistant", "cut \xE2\x82");
  const std::string json = conversation.ToJson();
  EXPECT_THAT(json, StartsWith("[\n  {\"role\":\"system\",\"content\":\"Be kind.\"},\n"));
  const Conversation again = Conversation::Parse(json, "f");
  EXPECT_EQ(again.messages(), conversation.messages());
  EXPECT_EQ(again.system(), "Be kind.");
  EXPECT_EQ(again.n_turns(), 2U);
  EXPECT_EQ(again.last_text(), "cut \uFFFD");
  EXPECT_EQ(Conversation::Parse("[]", "f").ToJson(), "[\n]\n");
}

TEST(ConversationTest, KeepsWhatElseStandsInAMessage) {
  const std::string json = R"([{"role": "tool", "tool_call_id": "a", "content": "1"}])";
  EXPECT_EQ(Conversation::Parse(json, "f").messages()[0]["tool_call_id"], "a");
}

TEST(ConversationTest, TheSystemsWordsComeFirstAndOnce) {
  Conversation conversation;
  conversation.Add("user", "Hello");
  conversation.set_system("one");
  conversation.set_system("two");
  EXPECT_EQ(conversation.messages().size(), 2U);
  EXPECT_EQ(conversation.system(), "two");
  conversation.Clear();
  EXPECT_EQ(conversation.system(), "two");
  EXPECT_EQ(conversation.n_turns(), 0U);
  conversation.set_system("");
  EXPECT_TRUE(conversation.messages().empty());
}

TEST(ConversationTest, RewindsToTheUser) {
  Conversation conversation;
  conversation.set_system("Be kind.");
  EXPECT_FALSE(conversation.RewindToUser());
  EXPECT_EQ(conversation.messages().size(), 1U);
  conversation.Add("user", "Hello");
  conversation.Add("assistant", "Hi.");
  EXPECT_TRUE(conversation.RewindToUser());
  EXPECT_TRUE(conversation.EndsWith("user"));
  EXPECT_EQ(conversation.last_text(), "Hello");
}

TEST(ConversationTest, RefusesWhatIsNone) {
  const auto error_of = [](const std::string& json) {
    return MessageOf([&] { (void)Conversation::Parse(json, "c.json"); });
  };
  EXPECT_THAT(error_of("[{"), StartsWith("c.json: not a conversation: expected JSON, found"));
  EXPECT_THAT(error_of("\xFF"), StartsWith("c.json: not a conversation: expected JSON, found"));
  EXPECT_THAT(error_of("{}"), HasSubstr("expected an array of messages, found object"));
  EXPECT_THAT(error_of("[1]"), HasSubstr("message 1: expected an object, found number"));
  EXPECT_THAT(error_of(R"([{"role": "user"}])"),
              HasSubstr("content of message 1: expected a text, found none"));
  EXPECT_THAT(error_of(R"([{"role": 1, "content": ""}])"),
              HasSubstr("role of message 1: expected a text, found number"));
  EXPECT_THAT(error_of(R"([{"role": "user", "content": ["a"]}])"), HasSubstr("found array"));
  EXPECT_THAT(error_of(R"([{"content": "", "role": ")" + std::string(65, 'r') + R"("}])"),
              HasSubstr("role of message 1: expected at most 64 bytes, found 65"));
  std::string many = "[";
  for (size_t i = 0; i <= Conversation::kMaxMessages; ++i) many += i == 0 ? "0" : ",0";
  EXPECT_THAT(error_of(many + "]"), HasSubstr("number of messages: expected at most 65536"));
  EXPECT_THAT(error_of(std::string(100'000, '[')), HasSubstr("expected JSON"));
}

}  // namespace
}  // namespace thermocline
