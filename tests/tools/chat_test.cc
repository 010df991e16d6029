// `run` as a chat: when it chats, what its commands do, and that it comes through what goes wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/tools/models.h"
#include "tests/tools/tool_process.h"

namespace thermocline {
namespace {

using testing::HasSubstr;
using testing::Not;
using Strings = std::vector<std::string>;

constexpr const char* kDemoChat =
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:";

class RunChat : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    shared_dir = new TempDir;
    WriteWithTemplate(DemoModel(), kDemoChat, model());
    WriteWholeFile(shared_dir->file("chat.jinja"), kDemoChat);
  }
  static void TearDownTestSuite() {
    delete shared_dir;
    shared_dir = nullptr;
  }
  static std::string model() { return shared_dir->file("chat.gguf"); }
  // Runs the model with few greedy tokens.
  static ToolResult Run(Strings arguments, const std::string& input = "") {
    arguments.insert(arguments.begin(), {"run", "-m", model(), "--temp", "0", "-n", "6"});
    return RunTool(arguments, input);
  }
  static ToolResult Chat(const std::string& lines) { return Run({"--chat"}, lines); }
  static std::string TextAfter(const std::string& prompt) {
    return Run({"--raw", "-p", prompt}).out;
  }

  static inline TempDir* shared_dir = nullptr;
};

TEST_F(RunChat, ScriptsContinueTextUnlessTheyAskForAChat) {
  const std::string text = TextAfter("The captain");
  const std::string reply = TextAfter("user: The captain\nassistant:");
  EXPECT_NE(text, reply);
  EXPECT_EQ(Run({"-p", "The captain"}).out, text);
  EXPECT_EQ(Run({"--chat", "-p", "The captain"}).out, reply);
  EXPECT_EQ(Run({"--reasoning", "on", "-f", "-"}, "The captain\n").out, reply);
  EXPECT_EQ(Run({"-sys", "Be kind.", "-p", "The captain"}).out,
            TextAfter("system: Be kind.\nuser: The captain\nassistant:"));
  EXPECT_EQ(RunTool({"run", "-m", DemoModel(), "--temp", "0", "-n", "6", "--chat-template",
                     shared_dir->file("chat.jinja"), "-p", "The captain"})
                .out,
            reply);
  EXPECT_EQ(Run({"-i"}, "The captain\n").out, reply);
  EXPECT_EQ(Run({"-i", "--raw"}, "The captain\n").out, text);
}

TEST_F(RunChat, ATurnHasTheTurnsBeforeInIt) {
  const std::string first = TextAfter("user: The captain\nassistant:");
  const std::string second =
      TextAfter("user: The captain\nassistant: " + first + "user: The ship\nassistant:");
  const ToolResult both = Chat("The captain\nThe ship\n/stats\n");
  EXPECT_EQ(both.exit_code, 0) << both.err;
  EXPECT_EQ(both.out, first + second);
  EXPECT_THAT(both.err, HasSubstr("messages  4\n"));
  EXPECT_THAT(both.err, HasSubstr(" kept from before\n"));
}

TEST_F(RunChat, SavesAndLoadsTheConversation) {
  const TempDir dir;
  const std::string path = dir.file("a chat.json");
  const ToolResult saved = Chat("/system Be kind.\nThe captain\n/save " + path + "\nThe ship\n");
  EXPECT_THAT(saved.err, HasSubstr("a chat.json: 3 messages]"));
  const auto messages = nlohmann::json::parse(ReadWholeFile(path));
  ASSERT_EQ(messages.size(), 3U);
  EXPECT_EQ(messages[0]["content"], "Be kind.");
  const std::string reply = messages[2]["content"].get<std::string>() + "\n";
  EXPECT_EQ(saved.out.substr(0, reply.size()), reply);

  const ToolResult loaded = Chat("/load " + path + "\n/system\n/regen\nThe ship\n");
  EXPECT_THAT(loaded.err, HasSubstr("3 messages]"));
  EXPECT_THAT(loaded.err, HasSubstr("Be kind.\n"));
  EXPECT_EQ(loaded.out, saved.out);

  const ToolResult rendered = RunTool({"render", "-m", model(), "--messages", path});
  EXPECT_THAT(rendered.out, testing::StartsWith("system: Be kind.\nuser: The captain\n"));
}

TEST_F(RunChat, EditsAndRepeats) {
  const std::string captain = Chat("The captain\n").out;
  const std::string ship = Chat("The ship\n").out;
  EXPECT_EQ(Chat("The captain\n/regen\n/edit The ship\n").out, captain + captain + ship);
  EXPECT_EQ(Chat("The captain\n/reset\nThe ship\n").out, captain + ship);
}

TEST_F(RunChat, SaysWhatIsWrongAndGoesOn) {
  const TempDir dir;
  WriteWholeFile(dir.file("bad.json"), R"([{"role": "user"}])");
  const ToolResult result =
      Chat("/regen\n/edit\n/save\n/load " + dir.file("none.json") + "\n/load " +
           dir.file("bad.json") + "\n/load -\n/save " + model() + "\n/save " +
           dir.file("none/x.json") + "\n/fly\n/help\n/system\nThe captain\n/edit\n/bye\nnever\n");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, Chat("The captain\n").out);
  for (const char* part :
       {"[there is no message yet]\n", "[which file? /save chat.json]\n",
        "none.json: cannot read: No such file", "bad.json: content of message 1: expected a text",
        "[-: not a file]\n", "chat.gguf: this file is read, and cannot be written",
        "x.json: cannot ", "[no such command", "/regen          another reply",
        "[there is no system prompt", "[lines cannot be edited here"}) {
    EXPECT_THAT(result.err, HasSubstr(part));
  }
}

TEST_F(RunChat, SaysThatTheContextIsFull) {
  const ToolResult result = RunTool({"run", "-m", model(), "--chat", "-c", "40", "-s", "1"},
                                    "The captain\nThe ship\n/reset\nThe ship\n");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("the conversation is longer than the context"));
  EXPECT_THAT(result.err, HasSubstr("[the context is full: /reset starts a new conversation"));
}

TEST_F(RunChat, ATemplateThatRefusesSaysSoBeforeTheModelIsLoaded) {
  const TempDir dir;
  WriteWholeFile(dir.file("t.jinja"),
                 "{% if messages[0].role == 'system' %}{{ raise_exception('No system!') }}{% endif "
                 "%}{{ messages[-1].content }}");
  const Strings base = {"--chat-template", dir.file("t.jinja")};
  Strings with_system = base;
  with_system.insert(with_system.end(), {"-sys", "a"});
  const ToolResult refused = Run(with_system, "never\n");
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.err, HasSubstr("the template refuses this conversation: No system!"));
  EXPECT_THAT(Run(base, "/system a\nThe captain\n").err, HasSubstr("[" + dir.file("t.jinja")));
}

// ---- on a terminal ----

TEST_F(RunChat, OnATerminalAModelWithATemplateChats) {
  ToolProcess chat({"run", "-m", model(), "--temp", "0", "-n", "4"}, "",
                   ToolProcess::Terminal::kYes);
  ASSERT_TRUE(chat.AwaitOutput("Each line is a message"));
  ASSERT_TRUE(chat.AwaitOutput("> "));
  chat.Type("The captain\n");
  ASSERT_TRUE(chat.AwaitOutput("The captain\r\n"));
  ASSERT_TRUE(chat.AwaitOutput("\r\n> "));
  // The last message comes back into the line, where it can be changed.
  chat.Type("/edit\n");
  ASSERT_TRUE(chat.AwaitOutput("/edit\r\n"));
  ASSERT_TRUE(chat.AwaitOutput("/edit The captain"));
  chat.Type("s ship\n");
  ASSERT_TRUE(chat.AwaitOutput("\r\n> "));
  const TempDir dir;
  chat.Type("/save " + dir.file("c.json") + "\n");
  ASSERT_TRUE(chat.AwaitOutput("2 messages]"));
  EXPECT_THAT(ReadWholeFile(dir.file("c.json")), HasSubstr("\"The captains ship\""));
  chat.Type("/exit\n");
  EXPECT_EQ(chat.Wait().exit_code, 0);
}

TEST_F(RunChat, OnATerminalAPromptIsOneMessage) {
  const auto on_terminal = [](Strings arguments) {
    arguments.insert(arguments.begin(), {"run", "-m", model(), "--temp", "0", "-n", "6"});
    return ToolProcess(arguments, "", ToolProcess::Terminal::kYes).Wait();
  };
  const ToolResult once = on_terminal({"-p", "The captain"});
  EXPECT_EQ(once.exit_code, 0);
  EXPECT_THAT(once.out, Not(HasSubstr("> ")));
  EXPECT_THAT(once.out, Not(HasSubstr("The captain")));
  EXPECT_THAT(on_terminal({"-p", "The captain", "--raw"}).out, HasSubstr("The captain"));
  EXPECT_THAT(on_terminal({"--raw"}).out, HasSubstr("what should it continue?"));
  const ToolResult no_template =
      ToolProcess({"run", "-m", DemoModel()}, "", ToolProcess::Terminal::kYes).Wait();
  EXPECT_EQ(no_template.exit_code, 2);
  EXPECT_THAT(no_template.out, HasSubstr("what should it continue?"));
}

}  // namespace
}  // namespace thermocline
