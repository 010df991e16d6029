// A real model, SmolLM2-135M-Instruct in Q4_1 (tools/get-model): the first one outside of this tree
// that everything has to go together for: tokenizer, chat template, weights, KV cache.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>

#include "runtime/chat/chat.h"
#include "runtime/text/jinja/model_template.h"
#include "tests/tools/models.h"
#include "tests/tools/tool_process.h"

namespace thermocline {
namespace {

using testing::HasSubstr;

// Behind the model's own system prompt the first token of an answer is a near-tie, which rounding
// decides: "The" is 0.08 nats likelier than the beginning of something in French. This one has
// none.
constexpr const char* kSystem = "Answer in one short sentence.";

class RealModel : public testing::Test {
 protected:
  // Asks tools/get-model for the model, once.
  static void SetUpTestSuite() {
    const std::string command =
        std::string("'") + THERMOCLINE_SOURCE_DIR + "/tools/get-model' smollm2 2>&1";
    std::FILE* pipe = ::popen(command.c_str(), "r");
    ASSERT_NE(pipe, nullptr);
    said.clear();
    char bytes[512];
    while (const size_t n = std::fread(bytes, 1, sizeof(bytes), pipe)) said.append(bytes, n);
    const int status = ::pclose(pipe);
    is_here = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (!said.empty() && said.back() == '\n') said.pop_back();
  }
  void SetUp() override {
    if (!is_here) GTEST_SKIP() << said;
  }
  static const std::string& model() { return said; }

  static inline bool is_here = false;
  static inline std::string said;  // the model's path, or why there is none
};

TEST_F(RealModel, AnswersInAChat) {
  const ToolResult result =
      RunTool({"run", "-m", model(), "--temp", "0", "-n", "60", "-c", "1024", "-sys", kSystem},
              "What is the capital of France?\nAnd of Germany?\n/stats\n");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("Paris"));
  EXPECT_THAT(result.out, HasSubstr("Berlin"));
  EXPECT_THAT(result.err, HasSubstr("messages  4\n"));
  EXPECT_THAT(result.out, testing::Not(HasSubstr("<|")));
}

TEST_F(RealModel, ASecondTurnKeepsTheFirst) {
  EngineOptions options;
  options.model_path = model();
  options.context_tokens = 1024;
  Engine engine(options);
  const ChatFormat format(
      {.source = ReadModelTemplate(engine.model().gguf()).source, .name = model()},
      engine.tokenizer());
  EXPECT_EQ(format.reply_ends().size(), 1U);
  Generator generator(engine, {.temperature = 0});
  Chat chat(generator, format);
  chat.set_system(kSystem);
  std::string reply;
  const auto collect = [&](std::string_view text) { reply += text; };
  const Generation first = chat.Say("What is the capital of France?", 60, collect);
  EXPECT_EQ(first.stop, StopReason::kEndOfText);
  const int64_t n_cached = engine.n_past();
  const Generation second = chat.Say("And of Germany?", 60, collect);
  EXPECT_EQ(second.kept_tokens, n_cached);
  EXPECT_LT(second.prompt_tokens, 24) << "the end of a reply, the question, the start of a reply";

  // The same conversation, all of it fed at once.
  const std::string kept_reply = chat.conversation().last_text();
  chat.Reset();
  Conversation whole;
  whole.set_system(kSystem);
  whole.Add("user", "What is the capital of France?");
  whole.Add("assistant", reply.substr(0, reply.size() - kept_reply.size()));
  whole.Add("user", "And of Germany?");
  chat.set_conversation(whole);
  EXPECT_EQ(chat.ReplyAgain(60, [](std::string_view) {}).kept_tokens, 0);
  EXPECT_EQ(chat.conversation().last_text(), kept_reply);
}

TEST_F(RealModel, TextsComeBackFromTheirTokens) {
  const auto tokenizer = MakeTokenizer(GgufReader(model()));
  const std::string text =
      ReadWholeFile(std::string(THERMOCLINE_SOURCE_DIR) + "/tools/demo.d/heldout.txt") +
      "\nint main() { return 1234567; }\r\n\t\u00e9\u65e5\U0001F600 <|im_end|>";
  EXPECT_TRUE(tokenizer->Decode(tokenizer->Encode(text)) == text);
  EXPECT_EQ(tokenizer->Encode("<|im_end|>", true), std::vector<int32_t>{2});
  EXPECT_GT(tokenizer->Encode("<|im_end|>").size(), 1U);
}

}  // namespace
}  // namespace thermocline
