#include "tools/reports/pass_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "gpu_kernels/base/gpu_support.h"
#include "runtime/core/interrupt.h"
#include "runtime/engine/evaluate.h"

namespace thermocline {
namespace {

constexpr size_t kMaxPrompts = 4;  // means over some hundred tokens do

double PerTokenMs(const PassProfile& profile, int64_t ns) {
  return static_cast<double>(ns) / 1e6 /
         static_cast<double>(std::max<int64_t>(1, profile.tokens()));
}

// Returns the mean over the threads.
PassTimes ThreadTimes(const PassProfile& profile) {
  PassTimes mean{};
  for (int thread = 0; thread < profile.n_threads(); ++thread) {
    const PassTimes& times = profile.thread_times(thread);
    for (size_t p = 0; p < mean.size(); ++p) mean[p] += times[p];
  }
  for (int64_t& ns : mean) ns /= profile.n_threads();
  return mean;
}

struct Row {
  std::string name;
  double ms;
};

std::vector<Row> RowsOf(const PassProfile& profile, const PassTimes& times) {
  std::vector<Row> rows;
  for (size_t p = 0; p < times.size(); ++p) {
    if (times[p] == 0) continue;
    rows.push_back(
        {std::string(PassPartName(static_cast<PassPart>(p))), PerTokenMs(profile, times[p])});
  }
  return rows;
}

std::vector<Row> GpuRows(const PassProfile& profile) {
  std::vector<Row> rows = RowsOf(profile, profile.gpu_times());
  rows.push_back({"between tokens", PerTokenMs(profile, profile.gpu_between_ns())});
  return rows;
}

double TotalMs(const std::vector<Row>& rows) {
  return std::accumulate(rows.begin(), rows.end(), 0.0,
                         [](double sum, const Row& row) { return sum + row.ms; });
}

std::string RowsText(const std::string& title, const std::vector<Row>& rows, double idle_share) {
  const double total_ms = TotalMs(rows);
  std::string text = fmt::format("{:<26}{:>12}{:>12}\n", title, "ms/token", "of time");
  for (const Row& row : rows) {
    text += fmt::format("  {:<24}{:>12.4f}{:>10.1f} %\n", row.name, row.ms,
                        total_ms > 0 ? 100 * row.ms / total_ms : 0);
  }
  text += fmt::format("  {:<24}{:>12.4f}\n", "token", total_ms);
  text += fmt::format("  {:<24}{:>12}{:>10.1f} %\n", "idle", "", 100 * idle_share);
  return text;
}

double PerToken(const PassProfile& profile, uint64_t n_bytes) {
  return static_cast<double>(n_bytes) / static_cast<double>(std::max<int64_t>(1, profile.tokens()));
}

std::string TrafficText(const PassProfile& profile, bool to_gpu) {
  std::string loads;
  for (size_t i = 0; i < kBusLoadInfos.size(); ++i) {
    const uint64_t n_bytes = profile.traffic().bytes[i];
    if (kBusLoadInfos[i].to_gpu != to_gpu || n_bytes == 0) continue;
    loads += fmt::format("{}{} {:.0f}", loads.empty() ? "" : ", ", kBusLoadInfos[i].name,
                         PerToken(profile, n_bytes));
  }
  return fmt::format("  {:<24}{:>12.0f}  ({})\n", to_gpu ? "to the GPU" : "to the host",
                     PerToken(profile, profile.traffic().Sum(to_gpu)), loads);
}

nlohmann::ordered_json RowsJson(const std::vector<Row>& rows, double idle_share) {
  nlohmann::ordered_json parts = nlohmann::ordered_json::array();
  for (const Row& row : rows) parts.push_back({{"part", row.name}, {"ms_per_token", row.ms}});
  return {{"parts", parts}, {"ms_per_token", TotalMs(rows)}, {"idle_share", idle_share}};
}

}  // namespace

void DecodeProfiled(Engine& engine, const std::vector<int32_t>& prompt, int64_t n_tokens,
                    PassProfile* profile) {
  engine.Reset();
  auto logits = engine.Feed(prompt);
  engine.executor().ResetCounts();
  for (int64_t i = 0; i < n_tokens; ++i) {
    ThrowIfInterrupted();
    const int32_t next = FindBest(logits).id;
    // The profile begins here, as choosing the first token belongs to the prompt.
    if (i == 0) engine.executor().set_profile(profile);
    logits = engine.Feed({&next, 1});
  }
  engine.executor().set_profile(nullptr);
}

PassReport MeasurePasses(Engine& engine, SparseMode mode,
                         const std::vector<std::vector<int32_t>>& prompts,
                         const ComparisonOptions& options, int64_t keep_spans) {
  PassReport report{mode, engine.model().gpu(),
                    PassProfile(engine.model().n_threads(), keep_spans)};
  engine.executor().set_mode(mode);
  const size_t n_prompts = std::min(prompts.size(), kMaxPrompts);
  PassProfile warm_up(engine.model().n_threads());  // graphs with stamps are captured in it
  DecodeProfiled(engine, prompts.front(), 1, &warm_up);
  for (size_t p = 0; p < n_prompts; ++p) {
    Report(options.progress, "decoding part by part", p, n_prompts);
    DecodeProfiled(engine, prompts[p], options.decode_tokens, &report.profile);
  }
  Report(options.progress, "decoding part by part", n_prompts, n_prompts);
  return report;
}

std::string PassTable(const PassReport& report) {
  const PassProfile& profile = report.profile;
  const bool emulated = QueryGpuSupport().emulated;
  return fmt::format("\n{}, part by part, mean of {} tokens; GPU: {}\n{}",
                     SparseModeName(report.mode), profile.tokens(), report.gpu,
                     emulated ? "(times of an emulation say nothing about a GPU)\n" : "") +
         RowsText("GPU", GpuRows(profile), profile.gpu_idle_share()) +
         RowsText(fmt::format("CPU, mean of {} threads", profile.n_threads()),
                  RowsOf(profile, ThreadTimes(profile)), profile.cpu_idle_share()) +
         fmt::format("{:<26}{:>12}\n", "over the bus", "bytes/token") + TrafficText(profile, true) +
         TrafficText(profile, false);
}

nlohmann::ordered_json PassJson(const PassReport& report) {
  const PassProfile& profile = report.profile;
  nlohmann::ordered_json cpu =
      RowsJson(RowsOf(profile, ThreadTimes(profile)), profile.cpu_idle_share());
  cpu["threads"] = profile.n_threads();
  nlohmann::ordered_json loads = nlohmann::ordered_json::array();
  for (size_t i = 0; i < kBusLoadInfos.size(); ++i) {
    loads.push_back({{"load", kBusLoadInfos[i].name},
                     {"to_gpu", kBusLoadInfos[i].to_gpu},
                     {"bytes_per_token", PerToken(profile, profile.traffic().bytes[i])}});
  }
  return {{"mode", SparseModeName(report.mode)},
          {"device", report.gpu},
          {"tokens", profile.tokens()},
          {"gpu", RowsJson(GpuRows(profile), profile.gpu_idle_share())},
          {"cpu", cpu},
          {"bus",
           {{"to_gpu_bytes_per_token", PerToken(profile, profile.traffic().Sum(true))},
            {"to_host_bytes_per_token", PerToken(profile, profile.traffic().Sum(false))},
            {"loads", loads}}}};
}

}  // namespace thermocline
