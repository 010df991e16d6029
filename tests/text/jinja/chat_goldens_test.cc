// Against Python's jinja2: whole chat templates over conversations, and a snippet for each feature
// (tests/golden/chat_templates).
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "tests/text/jinja/rendering.h"

namespace thermocline {
namespace {

using Json = nlohmann::ordered_json;

std::string GoldenFile(const std::string& name) {
  const std::string path =
      std::string(THERMOCLINE_SOURCE_DIR) + "/tests/golden/chat_templates/" + name;
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

ChatInput InputOf(const Json& conversation, const Json& tools) {
  ChatInput input;
  input.messages = conversation["messages"];
  if (conversation.contains("tools")) input.tools = tools;
  input.add_generation_prompt = conversation.value("add_generation_prompt", true);
  input.bos_token = "<s>";
  input.eos_token = "</s>";
  input.extra = conversation.value("extra", Json::object());
  input.now = GoldenTime();
  return input;
}

// Compares with a golden: the same text, or an Error where Python raised one. What a template
// raises itself is in the message.
template <typename Render>
void ExpectGolden(const Json& golden, Render render) {
  constexpr std::string_view kRaised = "TemplateError: ";
  const std::string error = golden.value("error", "");
  try {
    const std::string text = render();
    EXPECT_TRUE(error.empty()) << "Python: " << error << "\nhere: " << text;
    if (error.empty()) {
      EXPECT_EQ(text, golden["text"].get<std::string>());
    }
  } catch (const Error& found) {
    EXPECT_FALSE(error.empty()) << found.what();
    const std::string message = found.what();
    EXPECT_NE(message.find(".jinja: line "), std::string::npos) << message;
    if (error.starts_with(kRaised)) {
      EXPECT_NE(message.find(error.substr(kRaised.size())), std::string::npos) << message;
    }
  }
}

TEST(ChatGoldens, PromptsOfTemplates) {
  const Json goldens = Json::parse(GoldenFile("goldens.json"));
  const Json conversations = Json::parse(GoldenFile("conversations.json"));
  const Json tools = Json::parse(GoldenFile("tools.json"));
  ASSERT_EQ(goldens["prompts"].size(), 10U);
  for (const auto& [name, prompts] : goldens["prompts"].items()) {
    const ChatTemplate chat(GoldenFile("templates/" + name + ".jinja"), name + ".jinja");
    ASSERT_EQ(prompts.size(), conversations.size());
    for (const auto& [title, golden] : prompts.items()) {
      SCOPED_TRACE(testing::Message() << name << " with " << title);
      const ChatInput input = InputOf(conversations[title], tools);
      ExpectGolden(golden, [&] { return chat.Render(input); });
    }
  }
}

TEST(ChatGoldens, Snippets) {
  const Json goldens = Json::parse(GoldenFile("snippet_goldens.json"));
  ASSERT_GT(goldens["snippets"].size(), 100U);
  for (const Json& golden : goldens["snippets"]) {
    const std::string source = golden["template"];
    SCOPED_TRACE(source);
    ExpectGolden(golden, [&] { return Rendered(source, goldens["variables"]); });
  }
}

}  // namespace
}  // namespace thermocline
