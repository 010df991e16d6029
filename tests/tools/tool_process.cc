#include "tests/tools/tool_process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <thread>

namespace thermocline {
namespace {

constexpr auto kPatience = std::chrono::seconds(60);

[[noreturn]] void Exec(const std::vector<char*>& argv) {
  // A test run in the background may have been told to ignore Ctrl-C.
  for (const int signal_number : {SIGINT, SIGTERM, SIGHUP}) ::signal(signal_number, SIG_DFL);
  ::execv(argv[0], argv.data());
  ::_exit(127);
}

void Redirect(const std::string& path, int flags, int fd) {
  const int file = ::open(path.c_str(), flags, 0644);
  if (file < 0 || ::dup2(file, fd) < 0) ::_exit(126);
}

}  // namespace

ToolProcess::ToolProcess(const std::vector<std::string>& arguments,
                         const std::string& standard_input, Terminal terminal) {
  std::vector<std::string> strings = {THERMOCLINE_BINARY};
  strings.insert(strings.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& text : strings) argv.push_back(text.data());
  argv.push_back(nullptr);
  if (terminal == Terminal::kYes) {
    StartOnTerminal(std::move(argv));
  } else {
    StartOnFiles(std::move(argv), standard_input);
  }
}

ToolProcess::~ToolProcess() {
  if (running()) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, &status_, 0);
  }
  if (terminal_ >= 0) ::close(terminal_);
}

// Output goes to files and not to pipes: nobody has to read while the process writes.
void ToolProcess::StartOnFiles(std::vector<char*> argv, const std::string& standard_input) {
  WriteWholeFile(dir_.file("in"), standard_input);
  pid_ = ::fork();
  if (pid_ != 0) return;
  Redirect(dir_.file("in"), O_RDONLY, STDIN_FILENO);
  Redirect(dir_.file("out"), O_WRONLY | O_CREAT, STDOUT_FILENO);
  Redirect(dir_.file("err"), O_WRONLY | O_CREAT, STDERR_FILENO);
  Exec(argv);
}

void ToolProcess::StartOnTerminal(std::vector<char*> argv) {
  pid_ = ::forkpty(&terminal_, nullptr, nullptr, nullptr);
  if (pid_ != 0) return;
  ::setenv("TERM", "vt100", 1);
  Exec(argv);
}

void ToolProcess::Signal(int signal_number) const { ::kill(pid_, signal_number); }

void ToolProcess::Type(const std::string& text) const {
  EXPECT_EQ(::write(terminal_, text.data(), text.size()), static_cast<ssize_t>(text.size()));
}

bool ToolProcess::running() {
  if (pid_ <= 0) return false;
  if (::waitpid(pid_, &status_, WNOHANG) == 0) return true;
  pid_ = -1;
  return false;
}

bool ToolProcess::ReadTerminal() {
  pollfd ready{.fd = terminal_, .events = POLLIN, .revents = 0};
  if (terminal_ < 0 || ::poll(&ready, 1, 10) <= 0) return false;
  char bytes[4096];
  const ssize_t n = ::read(terminal_, bytes, sizeof(bytes));
  if (n <= 0) return false;  // EIO: the process has closed its end
  shown_.append(bytes, static_cast<size_t>(n));
  return true;
}

bool ToolProcess::AwaitOutput(const std::string& text) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (std::chrono::steady_clock::now() < deadline) {
    const bool alive = running();
    if (terminal_ >= 0) {
      (void)ReadTerminal();
    } else {
      shown_ = ReadWholeFile(dir_.file("out"));
    }
    const size_t at = shown_.find(text, awaited_);
    if (at != std::string::npos) {
      if (terminal_ >= 0) awaited_ = at + text.size();
      return true;
    }
    if (!alive) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return false;
}

ToolResult ToolProcess::Wait() {
  while (running()) {
    (void)ReadTerminal();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  ToolResult result;
  result.exit_code = WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_);
  if (terminal_ >= 0) {
    while (ReadTerminal()) {
    }
    result.out = shown_;
  } else {
    result.out = ReadWholeFile(dir_.file("out"));
    result.err = ReadWholeFile(dir_.file("err"));
  }
  return result;
}

ToolResult RunTool(const std::vector<std::string>& arguments, const std::string& standard_input) {
  return ToolProcess(arguments, standard_input).Wait();
}

}  // namespace thermocline
