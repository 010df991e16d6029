// The verb `render`: a model's template, a file's, and what can be wrong with either.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/tools/models.h"
#include "tests/tools/tool_process.h"

namespace thermocline {
namespace {

using testing::EndsWith;
using testing::HasSubstr;

constexpr const char* kChat =
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token }}{% endfor "
    "%}{% if tools %}{{ tools | tojson }}{% endif %}{% if add_generation_prompt %}[assistant]{% "
    "endif %}";
constexpr const char* kMessages = R"([{"role": "user", "content": "Hi, Zoë"}])";

TEST(RenderVerb, RendersTheModelsTemplateWithItsTokens) {
  const TempDir dir;
  WriteWithTemplate(GoldenModel("gqa_relu"), kChat, dir.file("m.gguf"));
  WriteWholeFile(dir.file("messages.json"), kMessages);
  WriteWholeFile(dir.file("tools.json"), R"([{"b": 1, "a": "<é>"}])");
  const ToolResult plain =
      RunTool({"render", "-m", dir.file("m.gguf"), "--messages", dir.file("messages.json")});
  EXPECT_EQ(plain.out, "<s>[user]Hi, Zoë</s>[assistant]") << plain.err;
  EXPECT_EQ(plain.err, "");
  const ToolResult other =
      RunTool({"render", "-m", dir.file("m.gguf"), "--messages", "-", "--tools",
               dir.file("tools.json"), "--no-generation-prompt", "--bos", "", "--eos", "|"},
              kMessages);
  EXPECT_EQ(other.out, "[user]Hi, Zoë|[{\"b\": 1, \"a\": \"<é>\"}]") << other.err;
}

TEST(RenderVerb, RendersAFileAtATime) {
  const TempDir dir;
  WriteWholeFile(dir.file("chat.jinja"),
                 "{{ bos_token }}{{ strftime_now('%A %d %B %Y, %H:%M:%S, day %j') }}\n\n");
  const ToolResult result = RunTool({"render", "--chat-template", dir.file("chat.jinja"), "--bos",
                                     "<bos>", "--messages", "-", "--now", "2026-01-31T12:00"},
                                    "[]");
  EXPECT_EQ(result.out, "<bos>Saturday 31 January 2026, 12:00:00, day 031\n") << result.err;
}

TEST(RenderVerb, TakesNamedTemplatesAndVariables) {
  const TempDir dir;
  WriteWholeFile(dir.file("chat.jinja"), "{{ enable_thinking }} {{ word }}");
  WriteWholeFile(dir.file("vars.json"), R"({"word": "there", "enable_thinking": true})");
  const auto render = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"render", "--messages", "-", "--chat-template"});
    return RunTool(arguments, kMessages).out;
  };
  EXPECT_EQ(render({"chatml"}), "<|im_start|>user\nHi, Zoë<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(render({dir.file("chat.jinja"), "--template-vars", R"( {"word": "here"})"}), " here");
  EXPECT_EQ(render({dir.file("chat.jinja"), "--reasoning", "off", "--template-vars",
                    dir.file("vars.json")}),
            "False there");
}

TEST(RenderVerb, SaysWhatIsWrong) {
  const TempDir dir;
  WriteWholeFile(dir.file("bad.jinja"), "a\n{% if %}");
  WriteWholeFile(dir.file("refuses.jinja"), "\n\n{{ raise_exception('Only users.') }}");
  const auto error_of = [&](std::vector<std::string> arguments, const std::string& messages) {
    arguments.insert(arguments.begin(), "render");
    arguments.insert(arguments.end(), {"--messages", "-"});
    const ToolResult result = RunTool(arguments, messages);
    EXPECT_EQ(result.out, "");
    return fmt::format("{}: {}", result.exit_code, result.err);
  };
  EXPECT_THAT(error_of({}, "[]"), HasSubstr("2: thermocline: "));
  EXPECT_THAT(error_of({}, "[]"), HasSubstr("give -m MODEL or --chat-template NAME or FILE"));
  EXPECT_THAT(error_of({"-m", GoldenModel("gqa_relu")}, "[]"),
              EndsWith("the model brings no chat template; give one with --chat-template\n"));
  EXPECT_THAT(error_of({"--chat-template", dir.file("bad.jinja")}, "[]"),
              HasSubstr("bad.jinja: line 2: the template is not well-formed"));
  EXPECT_THAT(error_of({"--chat-template", dir.file("refuses.jinja")}, "[]"),
              EndsWith("line 3: the template refuses this conversation: Only users.\n"));
  EXPECT_THAT(error_of({"--chat-template", dir.file("refuses.jinja")}, "[{"),
              HasSubstr("not JSON"));
  EXPECT_THAT(error_of({"--chat-template", dir.file("refuses.jinja")}, "{}"),
              HasSubstr("not a conversation: expected an array, found object"));
  EXPECT_THAT(error_of({"--chat-template", "chatmi"}, "[]"),
              HasSubstr("chatmi: no such chat template: expected a file, or one of chatml, comm"));
  EXPECT_THAT(error_of({"--chat-template", "chatml", "--template-vars", "{]"}, "[]"),
              HasSubstr("the template's variables: not JSON"));
  EXPECT_THAT(
      error_of({"--chat-template", "chatml", "--template-vars", "{}", "--reasoning", "no"}, "[]"),
      HasSubstr("2: thermocline: "));
  for (const char* now : {"2026-02-30T12:00", "2026-01-31", "2026-01-31T12:00Z", "noon"}) {
    EXPECT_THAT(error_of({"--chat-template", dir.file("refuses.jinja"), "--now", now}, "[]"),
                HasSubstr("2: thermocline: "));
  }
}

}  // namespace
}  // namespace thermocline
