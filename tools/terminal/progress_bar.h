// Draws what ProgressFn reports, on stderr: a bar on a terminal, a plain line at every tenth when
// stderr is not one. Work that is over at once shows nothing.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "runtime/core/progress.h"

namespace thermocline {

class ProgressBar {
 public:
  using Clock = std::chrono::steady_clock;
  struct Options {
    bool terminal = false;
    int columns = 80;            // of the terminal
    double quiet_seconds = 0.5;  // nothing is shown of work that takes less
    std::function<void(const std::string&)> write;
    std::function<Clock::time_point()> now;
  };
  explicit ProgressBar(Options options) : options_(std::move(options)) {}

  // A new label, or less done than before, starts the next piece of work.
  void Update(const std::string& label, uint64_t done, uint64_t total);
  // Removes the bar from the terminal's line, so that something else can be printed there.
  void Clear();

 private:
  void Start(const std::string& label);
  void DrawBar(uint64_t done, uint64_t total, double seconds);
  void PrintLine(uint64_t done, uint64_t total, double seconds);

  Options options_;
  std::string label_;
  Clock::time_point started_;
  Clock::time_point drawn_;
  uint64_t done_ = 0;
  int tenths_ = 0;        // plain lines printed so far
  bool shown_ = false;    // whether anything of this piece of work was shown
  bool on_line_ = false;  // the bar stands on the terminal's current line
};

// Returns the process's own progress bar on stderr.
ProgressFn StderrProgress();
// Takes the process's bar off the terminal. Call it before printing to stderr or stdout while work
// may be running.
void ClearStderrProgress();
// Takes the process's bar off and prints to stderr. Where stderr is closed or full the text is
// lost, which is no reason to fail.
void PrintNote(std::string_view text);

}  // namespace thermocline
