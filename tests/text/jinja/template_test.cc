// What the goldens do not show: messages with their lines, the input, what differs from jinja2.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "tests/text/jinja/rendering.h"

namespace thermocline {
namespace {

using testing::HasSubstr;

TEST(ChatTemplate, GivesTheTemplateItsInput) {
  ChatInput input;
  input.messages = {{{"role", "user"}, {"content", "Hi"}}};
  input.bos_token = "<s>";
  input.extra = {{"enable_thinking", false}};
  input.now = GoldenTime();
  const ChatTemplate chat(
      "{{ bos_token }}{{ messages[0].content }}{{ tools is none }}{{ add_generation_prompt }}"
      "{{ enable_thinking }}{{ strftime_now('%H:%M') }}",
      "chat.jinja");
  EXPECT_EQ(chat.Render(input), "<s>HiTrueTrueFalse12:00");
  input.add_generation_prompt = false;
  EXPECT_EQ(chat.Render(input), "<s>HiTrueFalseFalse12:00") << "a template renders many times";
}

TEST(ChatTemplate, KeepsTheOrderOfKeysAndLargeNumbers) {
  const auto variables = nlohmann::ordered_json::parse(
      R"({"d": {"z": 1, "a": -9223372036854775808, "m": 18446744073709551615, "e": 0.1}})");
  EXPECT_EQ(Rendered("{{ d | tojson }}", variables),
            R"({"z": 1, "a": -9223372036854775808, "m": 1.8446744073709552e+19, "e": 0.1})");
}

TEST(ChatTemplate, MessagesHaveTheFileAndTheLine) {
  EXPECT_EQ(RenderingError("a\n{{ raise_exception('Roles\nmust alternate') }}"),
            "test.jinja: line 2: the template refuses this conversation: Roles\\x0amust "
            "alternate");
  EXPECT_EQ(RenderingError("{% if true %}\n\n{{ a.b }}{% endif %}"),
            "test.jinja: line 3: 'a' is undefined");
  EXPECT_EQ(RenderingError("{{ {}.b.c }}"),
            "test.jinja: line 1: 'b', an attribute of a dict, is undefined");
  EXPECT_EQ(RenderingError("{{ 'a' + 1 }}"),
            "test.jinja: line 1: '+' does not go with these values: found string and integer");
  EXPECT_EQ(RenderingError("{% macro m() %}\n{{ 1 // 0 }}{% endmacro %}\n\n{{ m() }}"),
            "test.jinja: line 2: division by zero");
  EXPECT_EQ(RenderingError("\n{{ 1 | fly }}"), "test.jinja: line 2: there is no filter 'fly'");
  EXPECT_EQ(RenderingError("\n{{ 1 is fly }}"), "test.jinja: line 2: there is no test 'fly'");
  EXPECT_EQ(RenderingError("{{ [1] | join(1, 2, 3) }}"),
            "test.jinja: line 1: too many arguments for join: expected at most 2, found 3");
  EXPECT_EQ(RenderingError("{{ [1] | join(e=1) }}"),
            "test.jinja: line 1: join has no argument 'e'");
}

TEST(ChatTemplate, ChangesListsAndDicts) {
  EXPECT_EQ(Rendered("{% set l = [2] %}{% set _ = l.append(3) %}{% set _ = l.insert(0, 1) %}"
                     "{% set _ = l.extend([4, 5]) %}{{ l.pop() }}{{ l.pop(0) }}{{ l }}"),
            "51[2, 3, 4]");
  EXPECT_EQ(Rendered("{% set d = {'a': 1, 'b': 2} %}{% set _ = d.update({'c': 3}, a=4) %}"
                     "{{ d.pop('b') }}{{ d.setdefault('e', 5) }}{{ d }}{{ d.c }}"),
            "25{'a': 4, 'c': 3, 'e': 5}3");
}

TEST(ChatTemplate, IntegersHave64Bits) {
  EXPECT_EQ(Rendered("{{ 9223372036854775807 }}"), "9223372036854775807");
  for (const char* expression : {"9223372036854775807 + 1", "2 ** 63", "-9223372036854775807 - 2",
                                 "(-9223372036854775807 - 1) // -1", "9223372036854775807 * 2"}) {
    EXPECT_THAT(RenderingError("{{ " + std::string(expression) + " }}"), HasSubstr("64 bits"));
  }
  EXPECT_EQ(Rendered("{{ (-9223372036854775807 - 1) % -1 }}{{ (-1) ** 9223372036854775807 }}"),
            "0-1");
}

TEST(ChatTemplate, ThreadsRenderAtTheSameTime) {
  const ChatTemplate chat("{% for m in messages %}{{ m.content | upper }}{% endfor %}", "t");
  ChatInput input;
  for (int i = 0; i < 100; ++i) input.messages.push_back({{"content", "ab"}});
  std::vector<std::string> texts(4);
  std::vector<std::thread> threads;
  for (std::string& text : texts) {
    threads.emplace_back([&chat, &input, &text] { text = chat.Render(input); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& text : texts) EXPECT_EQ(text, texts[0]);
  EXPECT_EQ(texts[0].size(), 200U);
}

}  // namespace
}  // namespace thermocline
