// Writes the passes of a run as a timeline (--trace). It is the array form of Chrome's trace
// events, which chrome://tracing and Perfetto open: a row of whole passes, a row for the GPU's
// stream if there is one, and a row per CPU thread, waits included.
#pragma once

#include <string>
#include <vector>

#include "runtime/core/atomic_file.h"
#include "runtime/timing/pass_profile.h"

namespace thermocline {

class TraceFile {
 public:
  // The most spans that one file keeps, all profiles together: some 50 MB of text.
  static constexpr int64_t kMaxSpans = 400'000;

  // Throws Error when the file cannot be written; nothing is there until Write.
  explicit TraceFile(const std::string& path) : path_(path), file_(path) {}

  struct Part {
    std::string name;
    const PassProfile* profile;
  };
  // Writes the file, once. Returns a line about what was written, and what was left out.
  std::string Write(const std::vector<Part>& parts);

 private:
  void WriteEvent(const std::string& event);
  void WritePart(const Part& part, int process, int64_t start_ns);
  void NameRow(int process, int row, const std::string& name);
  void WriteSpans(const std::vector<PassSpan>& spans, int process, int row, int64_t start_ns);

  std::string path_;
  AtomicFile file_;
  bool first_ = true;
};

}  // namespace thermocline
