// Standard streams, devices and files as shells hand them to the program, and signals: what is
// closed, full, endless, too large or cut short.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "runtime/threads/processors.h"
#include "tests/tools/models.h"
#include "tests/tools/tool_process.h"

namespace thermocline {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

// Runs `prefix` THERMOCLINE `rest` in a shell. Returns the exit code.
int Shell(const std::string& rest, const std::string& prefix = "") {
  const std::string command = prefix + "'" + THERMOCLINE_BINARY + "' " + rest;
  const int status = std::system(command.c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

class StreamsTest : public testing::Test {
 protected:
  std::string Generate() const {
    return "run -m '" + DemoModel() + "' -p 'The captain' --temp 0 -n 8 ";
  }
  std::string TextOf(const std::string& name) const { return ReadWholeFile(dir_.file(name)); }
  std::string To(const std::string& name) const { return "'" + dir_.file(name) + "' "; }

  TempDir dir_;
};

TEST_F(StreamsTest, AStderrThatTakesNothingChangesNothingElse) {
  ASSERT_EQ(Shell(Generate() + "2>/dev/null >" + To("plain")), 0);
  EXPECT_GT(TextOf("plain").size(), 8U);
  for (const std::string redirection : {"2>&-", "2>/dev/full"}) {
    SCOPED_TRACE(redirection);
    EXPECT_EQ(Shell(Generate() + redirection + " >" + To("out")), 0);
    EXPECT_EQ(TextOf("out"), TextOf("plain"));
    EXPECT_EQ(Shell("run -m none.gguf -p a " + redirection), 1);
    EXPECT_EQ(Shell("run --bogus " + redirection), 2);
    EXPECT_EQ(Shell("quantize '" + GoldenModel("gqa_relu") + "' " + To("q.gguf") + "F16 >" +
                    To("table") + redirection),
              0);
    EXPECT_THAT(TextOf("q.gguf"), StartsWith("GGUF"));
  }
}

TEST_F(StreamsTest, AStdoutThatTakesNothingIsAnError) {
  for (const std::string redirection : {">&-", ">/dev/full"}) {
    EXPECT_EQ(Shell(Generate() + redirection + " 2>" + To("err")), 1) << redirection;
    EXPECT_THAT(TextOf("err"), HasSubstr("standard output: cannot write: "));
  }
  EXPECT_EQ(Shell(Generate() + "-f - <&- 2>" + To("err")), 2);
  EXPECT_EQ(Shell("run -m '" + DemoModel() + "' -f - <&- 2>" + To("err")), 1);
  EXPECT_THAT(TextOf("err"), HasSubstr("standard input: cannot read: Bad file descriptor"));
}

TEST_F(StreamsTest, OutputGoesThroughWhatIsNoRegularFile) {
  const std::string quantize = "quantize '" + GoldenModel("gqa_relu") + "' ";
  ASSERT_EQ(Shell(quantize + To("plain") + "F16 >/dev/null 2>&1"), 0);
  EXPECT_EQ(Shell(quantize + "/dev/null F16 >/dev/null 2>&1"), 0);
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/null"));
  // The output is a pipe, a file and a link; the table follows the model.
  EXPECT_EQ(Shell(quantize + "/dev/stdout F16 2>/dev/null | cat >" + To("piped")), 0);
  EXPECT_THAT(TextOf("piped"), StartsWith(TextOf("plain")));
  EXPECT_EQ(Shell(quantize + "/dev/stdout F16 2>/dev/null >" + To("filed")), 0);
  EXPECT_EQ(TextOf("filed"), TextOf("piped"));
  ASSERT_EQ(::mkfifo(dir_.file("fifo").c_str(), 0600), 0);
  EXPECT_EQ(Shell(quantize + To("fifo") + "F16 >/dev/null 2>&1",
                  "cat " + To("fifo") + ">" + To("read") + "& "),
            0);
  EXPECT_TRUE(std::filesystem::is_fifo(dir_.file("fifo")));
  EXPECT_EQ(Shell(Generate() + "--trace /dev/fd/3 3>" + To("trace") + ">/dev/null 2>&1"), 0);
  EXPECT_THAT(TextOf("trace"), StartsWith("[\n{"));
}

TEST_F(StreamsTest, AFileTooLargeIsAnErrorThatLeavesNothing) {
  EXPECT_EQ(Shell("quantize '" + DemoModel() + "' " + To("out.gguf") + "F16 2>" + To("err") +
                      ">/dev/null",
                  "ulimit -f 16; "),
            1);
  EXPECT_THAT(TextOf("err"), HasSubstr("out.gguf: cannot write: File too large"));
  EXPECT_EQ(dir_.n_entries(), 1U);
}

// The text waits for more of a FIFO that stays open.
TEST_F(StreamsTest, ARequestToTerminateEndsTheReadingOfAText) {
  ASSERT_EQ(::mkfifo(dir_.file("fifo").c_str(), 0600), 0);
  const int fifo = ::open(dir_.file("fifo").c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_EQ(::write(fifo, "text", 4), 4);
  ToolProcess process({"run", "-m", DemoModel(), "-f", dir_.file("fifo")});
  int n_unread = 4;
  while (n_unread > 0 && process.running()) {
    ASSERT_EQ(::ioctl(fifo, FIONREAD, &n_unread), 0);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  process.Signal(SIGTERM);
  const ToolResult result = process.Wait();
  ::close(fifo);
  EXPECT_EQ(result.exit_code, 143);
  EXPECT_EQ(result.err, "thermocline: terminated\n");
}

TEST_F(StreamsTest, AModelCutShortWhileItIsReadIsNamed) {
  const std::string model = dir_.file("model.gguf");
  std::filesystem::copy_file(DemoModel(), model);
  ToolProcess process({"run", "-m", model, "-i", "-n", "4"}, "", ToolProcess::Terminal::kYes);
  ASSERT_TRUE(process.AwaitOutput("> "));
  std::filesystem::resize_file(model, 100);
  process.Type("Hello\n");
  const ToolResult result = process.Wait();
  EXPECT_EQ(result.exit_code, 1) << result.out;
  EXPECT_THAT(result.out, HasSubstr("model.gguf: the file was cut short while it was read"));
}

TEST_F(StreamsTest, MoreThreadsThanProcessorsAreToldAndObeyed) {
  const auto n_processors = ThreadCpus().size();
  const auto run = [](size_t n_threads) {
    return RunTool({"run", "-m", GoldenModel("gqa_relu"), "-p", "a", "-n", "2", "-t",
                    std::to_string(n_threads)});
  };
  const ToolResult many = run(n_processors + 1);
  EXPECT_EQ(many.exit_code, 0) << many.err;
  const std::string warning = "warning: " + std::to_string(n_processors + 1) + " threads on " +
                              std::to_string(n_processors);
  const size_t at = many.err.find(warning);
  ASSERT_NE(at, std::string::npos) << many.err;
  EXPECT_EQ(many.err.find("warning", at + warning.size()), std::string::npos) << "once";
  EXPECT_THAT(many.err, HasSubstr(std::to_string(n_processors + 1) + " threads"));
  EXPECT_THAT(run(n_processors).err, Not(HasSubstr("warning")));
}

TEST_F(StreamsTest, MoreThreadsThanCoresCannotBePinned) {
  const ToolResult result =
      RunTool({"run", "-m", GoldenModel("gqa_relu"), "-p", "a", "--pin", "on", "-t", "1024"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err,
              AllOf(HasSubstr("threads cannot be pinned: expected at most one for each of the "),
                    HasSubstr("ask for fewer threads, or do not pin them (-t, --pin)\n")));
}

}  // namespace
}  // namespace thermocline
