// Ctrl-C in the middle of writing a model gives exit code 130, and leaves the directory as it was.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include "tests/support/short_tests.h"
#include "tests/tools/models.h"
#include "tests/tools/tool_process.h"

namespace thermocline {
namespace {

class InterruptFilesTest : public testing::Test {
 protected:
  void SetUp() override {
    WriteLargeModel(dir_.file("large.gguf"));
    WriteShuffledPlacement(dir_.file("large.gguf"), dir_.file("placement.gguf"));
    std::filesystem::create_directory(dir_.file("out"));
    WriteWholeFile(dir_.file("out/older.gguf"), "an older file");
  }

  std::vector<std::string> Listing() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(dir_.file("out"))) {
      names.push_back(entry.path().filename());
    }
    return names;
  }

  // Sends the signal when the temporary file is there, which it is before the work begins. A
  // machine that was busy elsewhere may see the work done before; then it is tried once more.
  void InterruptWhileWriting(const std::vector<std::string>& arguments, int signal_number) {
    const bool terminate = signal_number == SIGTERM;
    for (int attempt = 0; attempt < 5; ++attempt) {
      WriteWholeFile(dir_.file("out/older.gguf"), "an older file");
      ToolProcess process(arguments);
      while (process.running() && Listing().size() == 1) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      if (process.running()) process.Signal(signal_number);
      const ToolResult result = process.Wait();
      if (result.exit_code == 0) continue;
      EXPECT_EQ(result.exit_code, terminate ? 143 : 130) << result.err;
      EXPECT_THAT(result.err, testing::EndsWith(terminate ? "thermocline: terminated\n"
                                                          : "thermocline: interrupted\n"));
      EXPECT_THAT(Listing(), testing::ElementsAre("older.gguf"));
      EXPECT_EQ(ReadWholeFile(dir_.file("out/older.gguf")), "an older file");
      return;
    }
    FAIL() << "the work was always done before the signal came";
  }

  TempDir dir_;
};

TEST_F(InterruptFilesTest, Quantize) {
  InterruptWhileWriting({"quantize", dir_.file("large.gguf"), dir_.file("out/older.gguf"), "Q4_0"},
                        SIGINT);
}

TEST_F(InterruptFilesTest, Pack) {
  InterruptWhileWriting({"pack", "-m", dir_.file("large.gguf"), "--placement",
                         dir_.file("placement.gguf"), "-o", dir_.file("out/older.gguf")},
                        SIGINT);
}

TEST_F(InterruptFilesTest, Synth) {
  InterruptWhileWriting({"synth",     "--n-layers",
                         "2",         "--d-model",
                         "1024",      "--d-ff",
                         "8192",      "--n-heads",
                         "8",         "--n-kv-heads",
                         "8",         "--activation",
                         "relu",      "--density",
                         "0.1",       "--no-check",
                         "--profile", dir_.file("synth.profile.gguf"),
                         "-o",        dir_.file("out/older.gguf")},
                        SIGINT);
  EXPECT_FALSE(std::filesystem::exists(dir_.file("synth.profile.gguf")));
}

TEST_F(InterruptFilesTest, ARequestToTerminateCleansUpToo) {
  InterruptWhileWriting({"quantize", dir_.file("large.gguf"), dir_.file("out/older.gguf"), "Q8_0"},
                        SIGTERM);
}

TEST_F(InterruptFilesTest, TheNextRunRemovesWhatAKilledOneLeft) {
  const std::vector<std::string> arguments = {"quantize", dir_.file("large.gguf"),
                                              dir_.file("out/older.gguf"), "Q4_0"};
  bool left = false;
  for (int attempt = 0; attempt < 5 && !left; ++attempt) {
    ToolProcess process(arguments);
    while (process.running() && Listing().size() == 1) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    if (process.running()) process.Signal(SIGKILL);
    (void)process.Wait();
    left = Listing().size() == 2;
  }
  ASSERT_TRUE(left) << "the work was always done before the signal came";
  const ToolResult next = RunTool(arguments);
  EXPECT_EQ(next.exit_code, 0) << next.err;
  EXPECT_THAT(Listing(), testing::ElementsAre("older.gguf"));
}

// What is finished stays, however the process ends, and the next one goes on with it.
TEST(InterruptPredictorTest, TheNextOneGoesOnToTheSameFile) {
  const TempDir directory;
  const std::string demo = std::string(THERMOCLINE_SOURCE_DIR) + "/tools/demo.d/";
  const auto arguments = [&](const std::string& output) {
    return std::vector<std::string>{"predictor",
                                    "-m",
                                    demo + "classics-9m-relu-q8_0.gguf",
                                    "-f",
                                    demo + "calibration.txt",
                                    "--rank",
                                    "32",
                                    "--max-tokens",
                                    ShortTests() ? "4500" : "9000",
                                    "-t",
                                    "2",
                                    "-o",
                                    directory.file(output)};
  };
  ASSERT_EQ(RunTool(arguments("whole.gguf")).exit_code, 0);
  const std::string whole = ReadWholeFile(directory.file("whole.gguf"));
  for (const int signal_number : {SIGINT, SIGKILL}) {
    bool stopped = false;
    for (int attempt = 0; attempt < 5 && !stopped; ++attempt) {
      ToolProcess process(arguments("out.gguf"));
      while (process.running() &&
             !std::filesystem::exists(directory.file("out.gguf.partial.gguf"))) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      if (process.running()) process.Signal(signal_number);
      const ToolResult result = process.Wait();
      stopped = result.exit_code != 0;
      if (!stopped || signal_number == SIGKILL) continue;
      EXPECT_EQ(result.exit_code, 130) << result.err;
      EXPECT_THAT(result.out, testing::HasSubstr("the same command goes on"));
    }
    ASSERT_TRUE(stopped) << "the work was always done before the signal came";
    const ToolResult next = RunTool(arguments("out.gguf"));
    EXPECT_EQ(next.exit_code, 0) << next.err;
    EXPECT_THAT(next.out, testing::HasSubstr("going on from"));
    EXPECT_EQ(ReadWholeFile(directory.file("out.gguf")), whole);
    EXPECT_FALSE(std::filesystem::exists(directory.file("out.gguf.partial.gguf")));
  }
}

}  // namespace
}  // namespace thermocline
