#include "tools/terminal/progress_bar.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace thermocline {
namespace {

constexpr double kRedrawSeconds = 0.1;
constexpr int kBarCells = 24;

double SecondsBetween(ProgressBar::Clock::time_point from, ProgressBar::Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

std::string DurationText(double seconds) {
  const auto s = static_cast<int64_t>(std::ceil(std::min(seconds, 1e9)));
  if (s >= 3600) return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
  return fmt::format("{}:{:02}", s / 60, s % 60);
}

// Returns "37/80  12.1/s  0:04 left", or "80/80  0:07" at the end.
std::string StateText(uint64_t done, uint64_t total, double seconds) {
  std::string text = fmt::format("{}/{}", done, total);
  if (done >= total) return text + "  " + DurationText(seconds);
  if (done == 0 || seconds <= 0) return text;
  const double rate = static_cast<double>(done) / seconds;
  return text + fmt::format("  {:.{}f}/s  {} left", rate, rate < 100 ? 1 : 0,
                            DurationText(static_cast<double>(total - done) / rate));
}

int TerminalColumns() {
  winsize size{};
  const bool known = ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? size.ws_col : 80;
}

ProgressBar& StderrBar() {
  static ProgressBar bar({.terminal = ::isatty(STDERR_FILENO) == 1,
                          .columns = TerminalColumns(),
                          .write =
                              [](const std::string& text) {
                                std::fputs(text.c_str(), stderr);
                                std::fflush(stderr);
                              },
                          .now = [] { return ProgressBar::Clock::now(); }});
  return bar;
}

}  // namespace

void ProgressBar::Start(const std::string& label) {
  Clear();
  label_ = label;
  started_ = options_.now();
  drawn_ = started_;
  tenths_ = 0;
  shown_ = false;
}

void ProgressBar::Update(const std::string& label, uint64_t done, uint64_t total) {
  if (label != label_ || done < done_) Start(label);
  done_ = done;
  if (total == 0) return;
  done = std::min(done, total);
  const double seconds = SecondsBetween(started_, options_.now());
  if (!shown_ && (seconds < options_.quiet_seconds || done == total)) return;
  if (options_.terminal) {
    DrawBar(done, total, seconds);
  } else {
    PrintLine(done, total, seconds);
  }
}

void ProgressBar::DrawBar(uint64_t done, uint64_t total, double seconds) {
  const auto now = options_.now();
  const bool first = !shown_;
  if (!first && done < total && SecondsBetween(drawn_, now) < kRedrawSeconds) return;
  drawn_ = now;
  shown_ = true;
  const double share = static_cast<double>(done) / static_cast<double>(total);
  const auto filled = static_cast<size_t>(share * kBarCells);
  const std::string bar = std::string(filled, '#') + std::string(kBarCells - filled, '.');
  std::string line = fmt::format("{} [{}] {:3.0f} %  {}", label_, bar, std::floor(100 * share),
                                 StateText(done, total, seconds));
  // The line is cut, since a line that wraps could not be overwritten.
  line.resize(std::min(line.size(), static_cast<size_t>(std::max(options_.columns - 1, 1))));
  options_.write("\r\x1b[K" + line);
  on_line_ = true;
  if (done == total) Clear();
}

void ProgressBar::PrintLine(uint64_t done, uint64_t total, double seconds) {
  const int tenths =
      static_cast<int>(10.0 * static_cast<double>(done) / static_cast<double>(total));
  if (shown_ && tenths <= tenths_) return;
  tenths_ = tenths;
  shown_ = true;
  options_.write(
      fmt::format("{}: {} %  {}\n", label_, done * 100 / total, StateText(done, total, seconds)));
}

void ProgressBar::Clear() {
  if (!on_line_) return;
  options_.write("\r\x1b[K");
  on_line_ = false;
}

ProgressFn StderrProgress() {
  return [](const std::string& label, uint64_t done, uint64_t total) {
    StderrBar().Update(label, done, total);
  };
}

void ClearStderrProgress() { StderrBar().Clear(); }

void PrintNote(std::string_view text) {
  ClearStderrProgress();
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

}  // namespace thermocline
