// The built program as a process of its own: what it prints, how it ends, and signals on its way.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "tests/support/temp_dir.h"

namespace thermocline {

struct ToolResult {
  int exit_code = -1;  // 128 + n when signal n killed it
  std::string out;
  std::string err;
};

class ToolProcess {
 public:
  enum class Terminal { kNone, kYes };  // kYes: stdin, stdout and stderr are one pseudo-terminal

  explicit ToolProcess(const std::vector<std::string>& arguments,
                       const std::string& standard_input = "", Terminal terminal = Terminal::kNone);
  ~ToolProcess();
  ToolProcess(const ToolProcess&) = delete;
  ToolProcess& operator=(const ToolProcess&) = delete;

  void Signal(int signal_number) const;
  // Types text on the terminal.
  void Type(const std::string& text) const;
  bool running();
  // Returns whether stdout held `text` within a minute; with a terminal, whether it was shown after
  // the text that was waited for last.
  bool AwaitOutput(const std::string& text);
  // Waits for the end. With a terminal all output is in `out`.
  ToolResult Wait();

 private:
  void StartOnFiles(std::vector<char*> argv, const std::string& standard_input);
  void StartOnTerminal(std::vector<char*> argv);
  // Takes what the terminal shows next, waiting some milliseconds for it; false when there is
  // nothing. It takes one piece at a time: a process that never pauses must not keep the test
  // reading.
  bool ReadTerminal();

  TempDir dir_;
  pid_t pid_ = -1;
  int status_ = 0;
  int terminal_ = -1;
  std::string shown_;
  size_t awaited_ = 0;
};

ToolResult RunTool(const std::vector<std::string>& arguments,
                   const std::string& standard_input = "");

}  // namespace thermocline
