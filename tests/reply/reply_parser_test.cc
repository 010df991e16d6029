// Replies of each format, whole and character by character, and broken ones.
#include "runtime/reply/reply_parser.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

namespace thermocline {
namespace {

ReplyFormat FormatOf(CallFormat calls, bool thinks = true) {
  ReplyFormat format{.calls = calls};
  if (thinks && calls != CallFormat::kHarmony) {
    format.think_open = "<think>";
    format.think_close = "</think>";
  }
  return format;
}

ReplyParserOptions TestOptions() {
  return {.tools = {"f", "get_weather", "python"}, .new_id = [] { return std::string("ID"); }};
}

// A reply as one line: reasoning, content, calls.
std::string Shown(const ParsedReply& reply) {
  std::string out = "R(" + reply.reasoning + ")C(" + reply.content + ")";
  for (const ParsedCall& call : reply.calls) {
    out += "[" + call.id + " " + call.name + " " + call.arguments + "]";
  }
  return out;
}

// Parses in pieces of n bytes (0: of random sizes).
ParsedReply ParseInPieces(const ReplyFormat& format, const std::string& text, size_t n,
                          uint32_t seed = 1) {
  ReplyParser parser(format, TestOptions());
  ParsedReply reply;
  std::mt19937 random(seed);
  for (size_t at = 0; at < text.size();) {
    const size_t size = n > 0 ? n : 1 + random() % 9;
    reply.Add(parser.Push(text.substr(at, size)));
    at += size;
  }
  reply.Add(parser.Finish());
  return reply;
}

struct ReplyCase {
  ReplyFormat format;
  const char* text;
  const char* shown;
};

std::vector<ReplyCase> ReplyCases() {
  const ReplyFormat hermes = FormatOf(CallFormat::kHermes);
  const ReplyFormat llama = FormatOf(CallFormat::kLlama3, false);
  const ReplyFormat mistral = FormatOf(CallFormat::kMistral, false);
  const ReplyFormat args = FormatOf(CallFormat::kMistralArgs, false);
  const ReplyFormat harmony = FormatOf(CallFormat::kHarmony);
  const ReplyFormat generic = FormatOf(CallFormat::kGeneric, false);
  ReplyFormat thinking = hermes;
  thinking.starts_thinking = true;
  return {
      {hermes, "Hello, world!\n", "R()C(Hello, world!\n)"},
      {hermes, "  a < b <tool", "R()C(  a < b <tool)"},
      {hermes, "<think>\nHmm, <b>\n</think>\n\nYes.", "R(Hmm, <b>)C(Yes.)"},
      {hermes, "\n<think>x</think>", "R(x)C()"},
      {hermes, "<think>never ends", "R(never ends)C()"},
      {hermes, "say <think>x</think>", "R()C(say <think>x</think>)"},
      {thinking, "so it is\n</think>\n\nYes", "R(so it is)C(Yes)"},
      {hermes,
       "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": [1, \"}\\\"\"]}}\n</tool_call>",
       "R()C()[ID f {\"a\": [1, \"}\\\"\"]}]"},
      {hermes,
       "<think>a</think>Let me see.\n<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n"
       "<tool_call>{\"arguments\":{\"x\":{}},\"name\":\"g\"}</tool_call>",
       "R(a)C(Let me see.)[ID f {}][ID g {\"x\":{}}]"},
      {hermes, "<tool_call>{\"name\":\"f\"}</tool_call> done", "R()C(done)[ID f {}]"},
      {hermes, "<tool_call>{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"}</tool_call>",
       "R()C()[ID f {\"a\":1}]"},
      {hermes, "<tool_call>no json</tool_call>", "R()C(<tool_call>no json</tool_call>)"},
      {hermes, "x <tool_call>{\"nom\": 1}", "R()C(x <tool_call>{\"nom\": 1})"},
      {hermes, "<tool_call>{\"name\":\"f\",\"argum", "R()C(<tool_call>{\"name\":\"f\",\"argum)"},
      {hermes, "<tool_call>{\"name\":\"f\",\"arguments\":{\"a\": 1, \"b",
       "R()C()[ID f {\"a\": 1, \"b]"},
      {hermes, "<tool_call>{\"name\":\"f\",\"arguments\":{}} and more", "R()C(and more)[ID f {}]"},
      {hermes, "<tool_call>{\"name\":\"f\",\"arguments\":5}</tool_call>", "R()C()[ID f 5]"},
      {llama, "{\"name\": \"f\", \"parameters\": {\"q\": \"x\"}}", "R()C()[ID f {\"q\": \"x\"}]"},
      {llama, "<|python_tag|>{\"type\": \"function\", \"name\": \"f\", \"parameters\": {}}",
       "R()C()[ID f {}]"},
      {llama,
       "{\"type\": \"function\", \"function\": {\"name\": \"f\", \"parameters\": {\"a\": 1}}}",
       "R()C()[ID f {\"a\": 1}]"},
      {llama,
       "{\"name\": \"f\", \"parameters\": {}}; {\"name\": \"get_weather\", \"parameters\": {}}",
       "R()C()[ID f {}][ID get_weather {}]"},
      {llama, "{\"name\": \"unknown\", \"parameters\": {}}",
       "R()C({\"name\": \"unknown\", \"parameters\": {}})"},
      {llama, "{\"name\": \"f\"}", "R()C({\"name\": \"f\"})"},
      {llama, "{\"answer\": 42}", "R()C({\"answer\": 42})"},
      {llama, "Sure: {\"name\": \"f\", \"parameters\": {}}",
       "R()C(Sure: {\"name\": \"f\", \"parameters\": {}})"},
      {llama, "<|python_tag|>print(\"ä\")\n",
       "R()C()[ID python {\"code\":\"print(\\\"ä\\\")\\n\"}]"},
      {mistral, "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {\"a\": 1}, \"id\": \"abcdefghi\"}]",
       "R()C()[ID f {\"a\": 1}]"},
      {mistral,
       "[TOOL_CALLS] [{\"id\": \"abcdefghi\", \"name\": \"f\", \"arguments\": {}}, "
       "{\"name\": \"g\", \"arguments\": {}}]",
       "R()C()[abcdefghi f {}][ID g {}]"},
      {mistral, "A list [1, 2] is no call.", "R()C(A list [1, 2] is no call.)"},
      {args, "[TOOL_CALLS]f[ARGS]{\"a\": {}}[TOOL_CALLS]g{\"b\": 2}",
       "R()C()[ID f {\"a\": {}}][ID g {\"b\": 2}]"},
      {args, "Hi [TOOL_CALLS]f[CALL_ID]abc[ARGS]{}", "R()C(Hi)[abc f {}]"},
      {harmony,
       "<|channel|>analysis<|message|>Think.<|end|><|start|>assistant<|channel|>final"
       "<|message|>Hello.",
       "R(Think.)C(Hello.)"},
      {harmony,
       "<|channel|>analysis<|message|>T<|end|><|start|>assistant<|channel|>commentary "
       "to=functions.f <|constrain|>json<|message|>{\"a\": 1}<|call|>",
       "R(T)C()[ID f {\"a\": 1}]"},
      {harmony, " to=functions.get_weather<|channel|>commentary json<|message|>{}",
       "R()C()[ID get_weather {}]"},
      {harmony,
       "<|channel|>commentary<|message|>I will look.<|end|><|start|>assistant"
       "<|channel|>commentary to=functions.f<|message|>{}",
       "R()C(I will look.)[ID f {}]"},
      {harmony, "Plain text", "R()C(Plain text)"},
      {harmony, "<|channel|>final<|message|>cut off <|e", "R()C(cut off <|e)"},
      {generic, "{\"name\": \"f\", \"arguments\": {\"a\": 1}}", "R()C()[ID f {\"a\": 1}]"},
      {generic, " [{\"name\": \"f\", \"arguments\": {}}, {\"name\": \"f\", \"arguments\": {}}]",
       "R()C()[ID f {}][ID f {}]"},
      {generic, "{\"tool_call\": {\"name\": \"f\", \"arguments\": {}}}", "R()C()[ID f {}]"},
      {generic, "[1, 2]", "R()C([1, 2])"},
      {generic, "Just text.", "R()C(Just text.)"},
  };
}

TEST(ReplyParserTest, PartsEachFormat) {
  for (const ReplyCase& c : ReplyCases()) {
    EXPECT_EQ(Shown(ParseReply(c.format, TestOptions(), c.text)), c.shown) << c.text;
  }
}

TEST(ReplyParserTest, PiecesOfAnySizeGiveTheSame) {
  for (const ReplyCase& c : ReplyCases()) {
    for (const size_t n : {1, 2, 3, 7}) {
      EXPECT_EQ(Shown(ParseInPieces(c.format, c.text, n)), c.shown) << n << ": " << c.text;
    }
  }
}

// Whatever is cut out of a reply or put into it: the same for any pieces, and nothing is lost but
// marks and white space.
TEST(ReplyParserTest, BrokenRepliesAreTheSameInPieces) {
  std::mt19937 random(7);
  const std::vector<ReplyCase> cases = ReplyCases();
  const std::vector<std::string> parts = {"<think>", "</think>", "<tool_call>", "{", "}",
                                          "\"",      "[",        "]",           ",", "<|message|>",
                                          "é",       "\n",       "\\"};
  for (int i = 0; i < 20'000; ++i) {
    const ReplyCase& c = cases[random() % cases.size()];
    std::string text = c.text;
    for (uint32_t edits = 1 + random() % 3; edits > 0; --edits) {
      const size_t at = random() % (text.size() + 1);
      if (random() % 2 == 0) {
        text.erase(at, random() % 8);
      } else {
        text.insert(at, parts[random() % parts.size()]);
      }
    }
    const std::string whole = Shown(ParseReply(c.format, TestOptions(), text));
    ASSERT_EQ(Shown(ParseInPieces(c.format, text, 1)), whole) << text;
    ASSERT_EQ(Shown(ParseInPieces(c.format, text, 0, random())), whole) << text;
  }
}

TEST(ReplyParserTest, TextIsHandedOutAtOnce) {
  ReplyParser parser(FormatOf(CallFormat::kHermes), TestOptions());
  EXPECT_EQ(parser.Push("Hello").content, "Hello");
  EXPECT_EQ(parser.Push(" wor").content, " wor");
  EXPECT_EQ(parser.Push("ld <").content, "ld");
  EXPECT_EQ(parser.Push("b>").content, " <b>");
  EXPECT_EQ(parser.Push("<tool_call>{\"name\": \"f\", ").empty(), true);
  const ReplyDelta begin = parser.Push("\"arguments\": {\"a");
  ASSERT_EQ(begin.calls.size(), 1U);
  EXPECT_EQ(begin.calls[0].name, "f");
  EXPECT_EQ(begin.calls[0].id, "ID");
  EXPECT_EQ(begin.calls[0].arguments, "{\"a");
  const ReplyDelta more = parser.Push("\": 1");
  ASSERT_EQ(more.calls.size(), 1U);
  EXPECT_EQ(more.calls[0].name, "");
  EXPECT_EQ(more.calls[0].arguments, "\": 1");
}

TEST(ReplyParserTest, CanBeToldToLeaveThingsAlone) {
  const std::string text =
      "<think>a</think><tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>";
  ReplyParserOptions options = TestOptions();
  options.calls = false;
  options.reasoning = false;
  const ParsedReply reply = ParseReply(FormatOf(CallFormat::kHermes), options, text);
  EXPECT_EQ(reply.content, text);
  EXPECT_TRUE(reply.calls.empty());
  EXPECT_TRUE(reply.reasoning.empty());
}

TEST(ReplyFormatTest, IsFoundInTemplates) {
  const auto calls = [](const char* source) { return DetectReplyFormat(source).calls; };
  EXPECT_EQ(calls("... <tool_call>\n{\"name\": ..."), CallFormat::kHermes);
  EXPECT_EQ(calls("'<|start_header_id|>ipython<|end_header_id|>'"), CallFormat::kLlama3);
  EXPECT_EQ(calls("{{ '[TOOL_CALLS] [' }}"), CallFormat::kMistral);
  EXPECT_EQ(calls("[TOOL_CALLS] + name + '[ARGS]'"), CallFormat::kMistralArgs);
  EXPECT_EQ(calls("<|start|>assistant<|channel|>analysis<|message|>"), CallFormat::kHarmony);
  EXPECT_EQ(calls("{{ messages[0].content }}"), CallFormat::kGeneric);
  const ReplyFormat qwen = DetectReplyFormat("<tool_call> ... content.split('</think>') <think>");
  EXPECT_EQ(qwen.think_open, "<think>");
  EXPECT_TRUE(EndsInThinking(qwen, "<|im_start|>assistant\n<think>\n"));
  EXPECT_FALSE(EndsInThinking(qwen, "<|im_start|>assistant\n<think>\n\n</think>\n\n"));
  EXPECT_FALSE(DetectReplyFormat("plain").thinks());
}

}  // namespace
}  // namespace thermocline
