// Grammars of tool calls: what they let a model write, and that the parser reads it back.
#include "runtime/reply/tool_grammar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/reply/reply_parser.h"
#include "tests/grammar/grammar_testing.h"
#include "tests/support/message_of.h"

namespace thermocline {
namespace {

using Kind = ToolChoice::Kind;

std::vector<Tool> TwoTools() {
  return ReadTools(SchemaJson::parse(R"([
    {"type": "function", "function": {"name": "add", "parameters": {"type": "object",
      "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]}}},
    {"type": "function", "function": {"name": "now"}}])"));
}

constexpr CallFormat kAllFormats[] = {CallFormat::kGeneric,     CallFormat::kHermes,
                                      CallFormat::kLlama3,      CallFormat::kMistral,
                                      CallFormat::kMistralArgs, CallFormat::kHarmony};

std::shared_ptr<const CompiledGrammar> CompileCalls(const ToolChoice& choice, bool parallel,
                                                    const ReplyFormat& format) {
  const auto vocabulary = ByteVocabulary();
  return Compile(ToolCallGbnf(TwoTools(), choice, parallel, format, *vocabulary), vocabulary);
}

struct CallText {
  CallFormat format;
  const char* text;
  const char* two;  // calls, where the format has several
};

constexpr CallText kCallTexts[] = {
    {CallFormat::kGeneric, R"({"name": "add", "arguments": {"a": 1, "b": 2}})",
     R"([{"name": "add", "arguments": {"a": 1, "b": 2}}, {"name": "now", "arguments": {}}])"},
    {CallFormat::kHermes,
     "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1, \"b\": 2}}\n</tool_call>",
     "<tool_call>{\"name\":\"add\",\"arguments\":{\"a\":1,\"b\":2}}</tool_call>\n"
     "<tool_call>{\"name\":\"now\",\"arguments\":{}}</tool_call>"},
    {CallFormat::kLlama3, R"({"name": "add", "parameters": {"a": 1, "b": 2}})", nullptr},
    {CallFormat::kMistral,
     R"([TOOL_CALLS] [{"name": "add", "arguments": {"a": 1, "b": 2}, "id": "abcdefghi"}])",
     R"([TOOL_CALLS][{"name": "add", "arguments": {"a": 1, "b": 2}}, {"name": "now", "arguments": {}}])"},
    {CallFormat::kMistralArgs, R"([TOOL_CALLS]add[ARGS]{"a": 1, "b": 2})",
     R"([TOOL_CALLS]add[ARGS]{"a": 1, "b": 2}[TOOL_CALLS]now[ARGS]{})"},
    {CallFormat::kHarmony,
     "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary "
     "to=functions.add <|constrain|>json<|message|>{\"a\": 1, \"b\": 2}",
     nullptr},
};

TEST(ToolGrammarTest, ForcesCallsThatTheParserReads) {
  for (const CallText& c : kCallTexts) {
    SCOPED_TRACE(c.text);
    const ReplyFormat format{.calls = c.format};
    const auto grammar = CompileCalls({Kind::kRequired}, false, format);
    EXPECT_TRUE(Matches(grammar, c.text));
    EXPECT_FALSE(Matches(grammar, "Hello"));
    const auto parallel = CompileCalls({Kind::kRequired}, true, format);
    EXPECT_TRUE(Matches(parallel, c.text));
    std::string other = c.text;
    other.replace(other.find("\"b\""), 3, "\"c\"");
    EXPECT_FALSE(Matches(grammar, other));
    const ReplyParserOptions options{.tools = {"add", "now"}, .new_id = [] { return "I"; }};
    const ParsedReply reply = ParseReply(format, options, c.text);
    ASSERT_EQ(reply.calls.size(), 1U);
    EXPECT_EQ(reply.calls[0].name, "add");
    EXPECT_EQ(SchemaJson::parse(reply.calls[0].arguments), SchemaJson::parse(R"({"a":1,"b":2})"));
    if (c.two == nullptr) continue;
    EXPECT_FALSE(Matches(grammar, c.two));
    EXPECT_TRUE(Matches(parallel, c.two));
    EXPECT_EQ(ParseReply(format, options, c.two).calls.size(), 2U);
  }
}

TEST(ToolGrammarTest, NamedMeansThatTool) {
  const ReplyFormat format{.calls = CallFormat::kHermes};
  const auto grammar = CompileCalls({Kind::kNamed, "now"}, false, format);
  EXPECT_TRUE(
      Matches(grammar, "<tool_call>{\"name\": \"now\", \"arguments\": {\"x\": 1}}</tool_call>"));
  EXPECT_FALSE(Matches(grammar, kCallTexts[1].text));
  EXPECT_THAT(MessageOf([&] {
                CompileCalls({Kind::kNamed, "later"}, false, format);
              }),
              testing::HasSubstr("later"));
}

TEST(ToolGrammarTest, AutoAllowsTextAndConstrainsCalls) {
  const ReplyFormat format{.calls = CallFormat::kHermes};
  const auto grammar = CompileCalls({}, true, format);
  EXPECT_TRUE(Matches(grammar, ""));
  EXPECT_TRUE(Matches(grammar, "Just <b>text</b> < with <tool and <<tool_cal"));
  EXPECT_TRUE(Matches(grammar, std::string("I see.\n") + kCallTexts[1].two));
  EXPECT_FALSE(Matches(grammar, "<tool_call>x"));
  EXPECT_FALSE(Matches(grammar, "a <<tool_call>{\"name\": \"sub\"}</tool_call>"));
  const auto vocabulary = ByteVocabulary();
  const auto gbnf = [&](const ToolChoice& choice, CallFormat calls) {
    return ToolCallGbnf(TwoTools(), choice, true, {.calls = calls}, *vocabulary);
  };
  EXPECT_EQ(gbnf({Kind::kNone}, CallFormat::kHermes), "");
  EXPECT_EQ(gbnf({}, CallFormat::kGeneric), "");
  const auto harmony = CompileCalls({}, false, {.calls = CallFormat::kHarmony});
  EXPECT_TRUE(Matches(harmony, kCallTexts[5].text));
  EXPECT_TRUE(Matches(harmony, "<|channel|>final<|message|>Hello."));
}

TEST(ToolGrammarTest, ReasoningMayComeFirst) {
  ReplyFormat format{
      .calls = CallFormat::kHermes, .think_open = "<think>", .think_close = "</think>"};
  const std::string call = kCallTexts[1].text;
  // <think> is a control token of this vocabulary, and </think> is text.
  const auto vocabulary = ByteVocabulary();
  GrammarMask mask(CompileCalls({Kind::kRequired}, false, format), {kEndToken});
  EXPECT_TRUE(mask.Allows(kThinkToken));
  mask.Accept(kThinkToken);
  EXPECT_TRUE(mask.AcceptText("so, <tool_call> maybe </thin </think>\n\n"));
  EXPECT_FALSE(mask.may_end());
  EXPECT_TRUE(mask.AcceptText(call));
  EXPECT_TRUE(mask.may_end());
  EXPECT_TRUE(Matches(CompileCalls({Kind::kRequired}, false, format), call));
  format.starts_thinking = true;
  EXPECT_TRUE(Matches(CompileCalls({Kind::kRequired}, false, format), "hm</think>" + call));
  EXPECT_FALSE(Matches(CompileCalls({Kind::kRequired}, false, format), call));
  EXPECT_TRUE(Matches(CompileCalls({}, false, format), "hm</think>text " + call));
  const auto json = Compile(
      JsonAnswerGbnf(SchemaJson::parse(R"({"type": "integer"})"), format, *vocabulary), vocabulary);
  EXPECT_TRUE(Matches(json, "{</think>\n42"));
  EXPECT_FALSE(Matches(json, "42"));
}

TEST(ToolGrammarTest, MarksThatAreTokensAreTokens) {
  std::vector<std::string> bytes = {"a", "{", "}", "<tool_call>", ""};
  for (int c = 0x20; c < 0x7F; ++c) bytes.emplace_back(1, static_cast<char>(c));
  const auto vocabulary = std::make_shared<GrammarVocabulary>(
      bytes, std::unordered_map<std::string, int32_t>{{"<tool_call>", 4}});
  const std::string gbnf = ToolCallGbnf(TwoTools(), {Kind::kRequired}, false,
                                        {.calls = CallFormat::kHermes}, *vocabulary);
  GrammarMask mask(Compile(gbnf, vocabulary), {});
  EXPECT_EQ(AllowedIds(mask, vocabulary->size()), std::vector<int32_t>{4});
}

TEST(ToolGrammarTest, BadToolsAreNamed) {
  const auto error = [](const char* tools) {
    return MessageOf([&] { ReadTools(SchemaJson::parse(tools)); });
  };
  EXPECT_THAT(error("{}"), testing::HasSubstr("tools"));
  EXPECT_THAT(error("[1]"), testing::HasSubstr("tool 1"));
  EXPECT_THAT(error(R"([{"type": "function", "function": {"name": "a b"}}])"),
              testing::HasSubstr("name"));
  EXPECT_THAT(MessageOf([] { ReadToolChoice(5); }), testing::HasSubstr("tool_choice"));
  for (const CallFormat calls : kAllFormats) {
    const auto tools = ReadTools(SchemaJson::parse(
        R"([{"type": "function", "function": {"name": "f", "parameters": {"properties": {"x": {"not": {}}}}}}])"));
    EXPECT_THAT(MessageOf([&] {
                  ToolCallGbnf(tools, {Kind::kRequired}, false, {.calls = calls},
                               *ByteVocabulary());
                }),
                testing::HasSubstr("\"not\" at the parameters of f/properties/x"));
  }
}

}  // namespace
}  // namespace thermocline
