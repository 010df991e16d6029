// The verb `run` as a user sees it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/support/temp_dir.h"
#include "tests/tools/models.h"
#include "tests/tools/tool_process.h"

namespace thermocline {
namespace {

using testing::HasSubstr;
using testing::Not;
using Strings = std::vector<std::string>;

const std::string kModel = GoldenModel("gqa_relu");

Strings Join(Strings a, const Strings& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST(RunTest, ContinuesLikeTheReference) {
  const std::string model =
      std::string(THERMOCLINE_SOURCE_DIR) + "/../shared/data/models/stories260k-f32.gguf";
  if (!std::filesystem::exists(model)) GTEST_SKIP() << "not here: " << model;
  const ToolResult result =
      RunTool({"run", "-m", model, "-p", "Once upon a time", "--temp", "0", "-n", "40"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(
      result.out,
      ", there was a little girl named Lily. She loved to play outside in the park. One day, she "
      "saw a big, red ball.\n");
}

TEST(RunTest, DenseAndExactWriteTheSameText) {
  // With a placement, exact and dense read the same stored weights.
  TempDir dir;
  WriteShuffledPlacement(DemoModel(), dir.file("placement"));
  const Strings base = {"run", "-m",          DemoModel(), "--placement", dir.file("placement"),
                        "-p",  "The captain", "--temp",    "0",           "-n",
                        "48"};
  const ToolResult dense = RunTool(Join(base, {"--sparse", "dense"}));
  const ToolResult exact = RunTool(Join(base, {"--sparse", "exact"}));
  EXPECT_EQ(dense.exit_code, 0) << dense.err;
  EXPECT_GT(dense.out.size(), 50U);
  EXPECT_EQ(dense.out, exact.out);
  EXPECT_THAT(exact.err, HasSubstr("FFN sparsity"));
  EXPECT_THAT(dense.err, Not(HasSubstr("FFN sparsity")));
}

TEST(RunTest, SavesWhereNeuronsHaveCome) {
  TempDir dir;
  WriteShuffledPlacement(DemoModel(), dir.file("placement"));
  const Strings base = {"run",         "-m",  DemoModel(), "--placement", dir.file("placement"),
                        "--fast-tier", "cpu", "-p",        "The captain", "--temp",
                        "0",           "-n",  "250",       "-c",          "256",
                        "-t",          "2"};
  const Strings save = {"--save-placement", dir.file("learned")};
  const ToolResult plain = RunTool(base);
  const ToolResult moved = RunTool(Join(Join(base, {"--adapt", "on"}), save));
  ASSERT_EQ(moved.exit_code, 0) << moved.err;
  EXPECT_THAT(moved.err, HasSubstr("neurons moved to the fast tier"));
  EXPECT_THAT(plain.err, HasSubstr("adapt    off: both tiers are memory of the host"));
  const Placement before = ReadPlacement(dir.file("placement"));
  const Placement after = ReadPlacement(dir.file("learned"));
  EXPECT_EQ(after.model_fingerprint, before.model_fingerprint);
  EXPECT_NE(after.layers[7].neuron_order, before.layers[7].neuron_order);
  // Over what was read, too.
  const Strings again = Join(base, {"--adapt", "on", "--save-placement", dir.file("placement")});
  EXPECT_EQ(RunTool(again).exit_code, 0);
  const ToolResult nothing = RunTool(Join(base, save));
  EXPECT_EQ(nothing.exit_code, 1);
  EXPECT_THAT(nothing.err, HasSubstr("learns no placement"));
  EXPECT_EQ(RunTool(Join(Join(base, save), {"--dry-run"})).exit_code, 2);
  EXPECT_EQ(RunTool(Join(base, {"--adapt", "on", "--save-placement", DemoModel()})).exit_code, 1);
}

TEST(RunTest, ATraceHoldsEveryPassAndChangesNothing) {
  TempDir dir;
  const Strings base = {"run", "-m", kModel, "-p", "abc", "-n",
                        "5",   "-t", "2",    "-s", "1",   "--repeat-penalty",
                        "1",   "-c", "64",   "-b", "2",   "--fast-tier",
                        "cpu"};
  const ToolResult plain = RunTool(base);
  const ToolResult traced = RunTool(Join(base, {"--trace", dir.file("t.json")}));
  ASSERT_EQ(traced.exit_code, 0) << traced.err;
  EXPECT_EQ(traced.out, plain.out);
  EXPECT_THAT(traced.err, HasSubstr("t.json: "));
  EXPECT_THAT(plain.err, Not(HasSubstr("trace")));
  const auto events = nlohmann::json::parse(ReadWholeFile(dir.file("t.json")));
  int n_passes = 0;
  int n_layers = 0;  // attention spans of thread 0 in a layer
  for (const auto& event : events) {
    n_passes += event["name"] == "token" || event["name"] == "prompt" ? 1 : 0;
    n_layers += event["name"] == "attention" && event["tid"] == 3 ? 1 : 0;
  }
  EXPECT_GT(n_passes, 5);
  const GgufReader gguf(kModel);
  EXPECT_EQ(n_layers, n_passes * ReadModelConfig(gguf, FindFamily(gguf)).n_layers);
}

TEST(RunTest, SameSeedSameText) {
  const Strings base = {"run", "-m", DemoModel(), "-p", "The captain", "-n", "32"};
  const ToolResult first = RunTool(Join(base, {"-s", "7"}));
  const ToolResult again = RunTool(Join(base, {"--seed", "7"}));
  const ToolResult other = RunTool(Join(base, {"-s", "8"}));
  EXPECT_EQ(first.out, again.out);
  EXPECT_NE(first.out, other.out);
  EXPECT_THAT(first.err, HasSubstr("seed 7"));
}

TEST(RunTest, GrammarsAndSchemasHoldTheText) {
  TempDir dir;
  WriteWholeFile(dir.file("g.gbnf"), "root ::= [0-9]{3} \"-\" [a-c]{2,4} \"!\"\n");
  WriteWholeFile(dir.file("s.json"), R"({"enum": ["red", "green"]})");
  const Strings base = {"run", "-m", DemoModel(), "-p", "The captain", "-s", "3", "-n", "300"};
  const auto text = [&](const Strings& more) { return RunTool(Join(base, more)).out; };
  const std::string free = text({"--grammar", "root ::= [0-9]{3} \"-\" [a-c]{2,4} \"!\""});
  EXPECT_THAT(free, testing::MatchesRegex("[0-9][0-9][0-9]-[a-c][a-c]+!\n"));
  EXPECT_EQ(text({"--grammar-file", dir.file("g.gbnf")}), free);
  EXPECT_THAT(text({"-jf", dir.file("s.json")}), testing::ContainsRegex("^\"(red|green)\""));
  const auto object = nlohmann::json::parse(
      text({"-j", R"({"properties": {"a": {"type": "integer"}, "b": {"type": "boolean"}},
                      "required": ["a", "b"]})"}));
  EXPECT_TRUE(object.at("a").is_number_integer());
  EXPECT_TRUE(object.at("b").is_boolean());
  for (const auto& [more, message] :
       std::vector<std::pair<Strings, std::string>>{{{"--grammar", "root ::= ("}, "line 1"},
                                                    {{"-j", R"({"not": {}})"}, "\"not\" at #"},
                                                    {{"-j", "{"}, "JSON"}}) {
    const ToolResult result = RunTool(Join(base, more));
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_THAT(result.err, HasSubstr(message));
  }
  EXPECT_EQ(RunTool(Join(base, {"-j", "{}", "--grammar", "root ::= \"a\""})).exit_code, 2);
}

TEST(RunTest, PromptFromFileAndStandardInputAreTheSame) {
  TempDir dir;
  WriteWholeFile(dir.file("prompt.txt"), "The captain\n");
  const Strings base = {"run", "-m", DemoModel(), "--temp", "0", "-n", "16"};
  const ToolResult text = RunTool(Join(base, {"-p", "The captain"}));
  EXPECT_EQ(RunTool(Join(base, {"-f", dir.file("prompt.txt")})).out, text.out);
  EXPECT_EQ(RunTool(Join(base, {"-f", "-"}), "The captain\n").out, text.out);
}

TEST(RunTest, SaysThatTheContextIsFull) {
  const ToolResult result =
      RunTool({"run", "-m", DemoModel(), "-p", "The captain", "-c", "24", "-n", "-1", "-s", "1"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.err, HasSubstr("the context of 24 tokens is full"));
}

TEST(RunTest, AnAdaptersScaleStandsBehindTheLastColon) {
  const Strings base = {"run", "-m", kModel, "-p", "a", "-n", "1", "--fast-tier", "cpu", "--lora"};
  for (const char* lora : {"none:here.gguf", "none:here.gguf:0.5", "none:here.gguf:-1e-1"}) {
    const ToolResult result = RunTool(Join(base, {lora}));
    EXPECT_EQ(result.exit_code, 1) << result.err;
    EXPECT_THAT(result.err, HasSubstr("none:here.gguf: "));
  }
}

TEST(RunTest, SummaryNamesWhatWasMeasured) {
  const ToolResult result =
      RunTool({"run", "-m", DemoModel(), "-p", "The captain", "-n", "8", "-t", "1", "-v"});
  for (const char* part : {"load ", "prompt ", "decode   8 tokens", "tok/s", "1 threads",
                           "weights read per token", "second time", "kernels ", "fingerprint "}) {
    EXPECT_THAT(result.err, HasSubstr(part));
  }
}

TEST(RunTest, DryRunShowsThePlanOfTheTiers) {
  TempDir dir;
  WriteShuffledPlacement(kModel, dir.file("p.gguf"));
  const Strings base = {"run", "-m", kModel, "--placement", dir.file("p.gguf"), "--dry-run"};
  const ToolResult table = RunTool(base);
  EXPECT_EQ(table.exit_code, 0) << table.err;
  EXPECT_THAT(table.out, HasSubstr("fast tier     slow tier"));
  EXPECT_THAT(table.out, HasSubstr("KV cache"));

  const auto plan = nlohmann::json::parse(RunTool(Join(base, {"--json"})).out);
  EXPECT_EQ(plan["layers"].size(), 2U);
  EXPECT_EQ(plan["layers"][0]["hot_neurons"], 38);
  EXPECT_EQ(plan["layers"][0]["cold_neurons"], 58);
  const auto sum = [&](std::initializer_list<const char*> parts) {
    uint64_t total = 0;
    for (const char* part : parts) total += plan[part].get<uint64_t>();
    return total;
  };
  EXPECT_EQ(plan["fast_total_bytes"], sum({"embedding_bytes", "attention_bytes", "hot_bytes",
                                           "kv_bytes", "fast_scratch_bytes"}));
  EXPECT_EQ(plan["slow_total_bytes"], sum({"cold_bytes", "slow_scratch_bytes"}));
}

TEST(RunTest, FullDiskIsAnError) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full here";
  const ToolResult result = RunTool({"quantize", kModel, "/dev/full", "F16"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("/dev/full: cannot write: No space left on device"));
}

// ---- the session ----

TEST(SessionTest, GoesOnWithTheSameText) {
  const Strings base = {"run", "-m", DemoModel(), "-i", "--temp", "0", "-n", "12"};
  const ToolResult two = RunTool(base, "The captain\n\n");
  EXPECT_EQ(two.exit_code, 0) << two.err;
  const ToolResult one =
      RunTool({"run", "-m", DemoModel(), "-p", "The captain", "--temp", "0", "-n", "24"});
  std::string joined = two.out;
  joined.erase(std::remove(joined.begin(), joined.end(), '\n'), joined.end());
  std::string whole = one.out;
  whole.erase(std::remove(whole.begin(), whole.end(), '\n'), whole.end());
  EXPECT_EQ(joined, whole) << "an empty line lets the reply go on";
}

TEST(SessionTest, ResetForgets) {
  const Strings base = {"run", "-m", DemoModel(), "-i", "--temp", "0", "-n", "12"};
  const ToolResult once = RunTool(base, "The captain\n");
  const ToolResult twice = RunTool(base, "The captain\n/reset\nThe captain\n");
  EXPECT_EQ(twice.out, once.out + once.out);
}

TEST(SessionTest, ObeysCommandsAndSaysWhenTheContextIsFull) {
  const Strings base = {"run", "-m", DemoModel(), "-i", "-c", "16", "-n", "-1", "-s", "1"};
  const ToolResult result = RunTool(base, "/help\n/fly\nThe captain\nof the ship\n/exit\nnever\n");
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.err, HasSubstr("/reset   forget"));
  EXPECT_THAT(result.err, HasSubstr("no such command"));
  EXPECT_THAT(result.err, HasSubstr("the context is full: /reset"));
}

// ---- Ctrl-C ----

class InterruptTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    shared_dir = new TempDir;
    WriteLargeModel(shared_dir->file("large.gguf"));
  }
  static void TearDownTestSuite() {
    delete shared_dir;
    shared_dir = nullptr;
  }
  static std::string model() { return shared_dir->file("large.gguf"); }
  // Starts a session that goes on replying until it is stopped.
  static Strings Session() {
    return {"run", "-m", model(), "-i", "-c", "16384", "-n", "-1", "-s", "1"};
  }
  // Types a line and waits for the reply. The model's words are w260, w261, ...: one of them is
  // awaited, and not the line editor that draws the line anew, to which Ctrl-C would be a key.
  static void BeginReply(ToolProcess& session) {
    ASSERT_TRUE(session.AwaitOutput("> "));
    session.Type("Hello\n");
    ASSERT_TRUE(session.AwaitOutput("Hello\r\n"));
    ASSERT_TRUE(session.AwaitOutput(" w"));
  }
  static inline TempDir* shared_dir = nullptr;
};

TEST_F(InterruptTest, StopsTheReplyAndPrintsTheSummary) {
  ToolProcess process({"run", "-m", model(), "-p", "Hello", "-c", "16384", "-n", "-1", "-s", "1"});
  ASSERT_TRUE(process.AwaitOutput(" "));
  process.Signal(SIGINT);
  const ToolResult result = process.Wait();
  EXPECT_EQ(result.exit_code, 130) << result.err;
  EXPECT_THAT(result.err, HasSubstr("stopped by Ctrl-C"));
  EXPECT_THAT(result.err, HasSubstr("decode "));
  EXPECT_THAT(result.err, HasSubstr("thermocline: interrupted\n"));
}

TEST_F(InterruptTest, SessionReturnsToThePromptAndLeavesThere) {
  ToolProcess process(Session(), "", ToolProcess::Terminal::kYes);
  ASSERT_NO_FATAL_FAILURE(BeginReply(process));
  process.Type("\x03");
  ASSERT_TRUE(process.AwaitOutput("[stopped]"));
  ASSERT_TRUE(process.AwaitOutput("> "));
  EXPECT_TRUE(process.running());
  process.Type("\x03");
  EXPECT_EQ(process.Wait().exit_code, 130);
}

TEST_F(InterruptTest, ARequestToTerminateEndsTheSessionDuringAReply) {
  ToolProcess process(Session(), "", ToolProcess::Terminal::kYes);
  ASSERT_NO_FATAL_FAILURE(BeginReply(process));
  process.Signal(SIGTERM);
  const ToolResult result = process.Wait();
  EXPECT_EQ(result.exit_code, 143);
  EXPECT_THAT(result.out, HasSubstr("decode "));
  EXPECT_THAT(result.out, HasSubstr("thermocline: terminated"));
}

TEST_F(InterruptTest, CtrlDLeavesTheSession) {
  ToolProcess process({"run", "-m", model(), "-i"}, "", ToolProcess::Terminal::kYes);
  ASSERT_TRUE(process.AwaitOutput("> "));
  process.Type("\x04");
  EXPECT_EQ(process.Wait().exit_code, 0);
}

}  // namespace
}  // namespace thermocline
