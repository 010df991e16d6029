#include "tools/reports/trace_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

namespace thermocline {
namespace {

// Viewers take 0 for a process or thread of the system's.
constexpr int kFirstProcess = 1;
constexpr int kPassesRow = 1;
constexpr int kGpuRow = 2;
constexpr int kFirstThreadRow = 3;

std::string Metadata(const std::string& what, int process, int row, const std::string& name) {
  return nlohmann::ordered_json{
      {"name", what}, {"ph", "M"}, {"pid", process}, {"tid", row}, {"args", {{"name", name}}}}
      .dump();
}

// Writes a complete event. Times are in microseconds. name, arguments: ours, without anything to
// escape.
std::string Complete(std::string_view name, int process, int row, int64_t begin_ns, int64_t end_ns,
                     const std::string& arguments) {
  return fmt::format(
      R"({{"name":"{}","ph":"X","ts":{:.3f},"dur":{:.3f},"pid":{},"tid":{},"args":{{{}}}}})", name,
      static_cast<double>(begin_ns) / 1e3, static_cast<double>(end_ns - begin_ns) / 1e3, process,
      row, arguments);
}

// Returns when the first thing happened: clocks of the GPU and the host agree to some microseconds
// only.
int64_t FirstNs(const std::vector<TraceFile::Part>& parts) {
  int64_t first_ns = std::numeric_limits<int64_t>::max();
  for (const TraceFile::Part& part : parts) {
    const auto& passes = part.profile->kept_passes();
    if (!passes.empty()) first_ns = std::min(first_ns, passes.front().begin_ns);
    const auto& gpu = part.profile->gpu_spans();
    if (!gpu.empty()) first_ns = std::min(first_ns, gpu.front().begin_ns);
  }
  return first_ns;
}

}  // namespace

void TraceFile::WriteEvent(const std::string& event) {
  const std::string line = (first_ ? "[\n" : ",\n") + event;
  first_ = false;
  file_.Write(line.data(), line.size());
}

void TraceFile::NameRow(int process, int row, const std::string& name) {
  WriteEvent(Metadata("thread_name", process, row, name));
  WriteEvent(nlohmann::ordered_json{{"name", "thread_sort_index"},
                                    {"ph", "M"},
                                    {"pid", process},
                                    {"tid", row},
                                    {"args", {{"sort_index", row}}}}
                 .dump());
}

void TraceFile::WriteSpans(const std::vector<PassSpan>& spans, int process, int row,
                           int64_t start_ns) {
  for (const PassSpan& span : spans) {
    const std::string layer =
        span.layer == PassSpan::kNoLayer ? "" : fmt::format(R"("layer":{})", span.layer);
    WriteEvent(Complete(PassPartName(span.part), process, row, span.begin_ns - start_ns,
                        span.end_ns - start_ns, layer));
  }
}

void TraceFile::WritePart(const Part& part, int process, int64_t start_ns) {
  const PassProfile& profile = *part.profile;
  WriteEvent(Metadata("process_name", process, kPassesRow, part.name));
  NameRow(process, kPassesRow, "passes");
  for (const PassProfile::Pass& pass : profile.kept_passes()) {
    WriteEvent(Complete(pass.n_tokens == 1 ? "token" : "prompt", process, kPassesRow,
                        pass.begin_ns - start_ns, pass.end_ns - start_ns,
                        fmt::format(R"("tokens":{})", pass.n_tokens)));
  }
  if (profile.has_gpu()) {
    NameRow(process, kGpuRow, "GPU");
    WriteSpans(profile.gpu_spans(), process, kGpuRow, start_ns);
  }
  for (int thread = 0; thread < profile.n_threads(); ++thread) {
    const int row = kFirstThreadRow + thread;
    NameRow(process, row, fmt::format("CPU thread {}", thread));
    WriteSpans(profile.thread_spans(thread), process, row, start_ns);
  }
}

std::string TraceFile::Write(const std::vector<Part>& parts) {
  const int64_t start_ns = FirstNs(parts);
  int64_t n_kept = 0;
  int64_t n_passes = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    WritePart(parts[i], kFirstProcess + static_cast<int>(i), start_ns);
    n_kept += static_cast<int64_t>(parts[i].profile->kept_passes().size());
    n_passes += parts[i].profile->passes();
  }
  const std::string end = first_ ? "[]\n" : "\n]\n";
  file_.Write(end.data(), end.size());
  file_.Commit();
  std::string note = fmt::format("trace    {}: {} passes", path_, n_kept);
  if (n_kept < n_passes)
    note += fmt::format(" (full: {} later ones are left out)", n_passes - n_kept);
  return note + "\n";
}

}  // namespace thermocline
