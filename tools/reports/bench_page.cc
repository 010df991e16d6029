#include "tools/reports/bench_page.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/core/size_text.h"
#include "tools/pictures/svg.h"

namespace thermocline {
namespace {

constexpr double kMiB = 1 << 20;

std::string Name(const ModeResult& mode) { return std::string(SparseModeName(mode.mode)); }

std::string Numbers(const Spread& spread) {
  return fmt::format("{:.2f} ({:.2f}-{:.2f})", spread.median, spread.p10, spread.p90);
}

std::string Quality(const ModeResult& mode) {
  if (mode.tokens_compared == 0) return "baseline";
  return fmt::format("{} of {} tokens, KL {:.2e}", mode.tokens_identical, mode.tokens_compared,
                     mode.mean_kl);
}

using Speeds = Spread ModeResult::*;

void AddSpeeds(const BenchReport& report, const char* heading, const char* text, Speeds speeds,
               HtmlPage* page) {
  BarChart chart{heading, {"tokens/s", 0, 0}, {"median"}, {}};
  HtmlTable table{{"mode", "tokens/s, median (p10-p90)", "text beside the baseline's"}, {}};
  for (const ModeResult& mode : report.modes) {
    const Spread& spread = mode.*speeds;
    chart.x.most = std::max(chart.x.most, spread.median);
    chart.rows.push_back({Name(mode), {spread.median}, fmt::format("{:.1f}", spread.median)});
    table.rows.push_back({Name(mode), Numbers(spread), Quality(mode)});
  }
  page->AddPicture(heading, text, DrawBars(chart), table);
}

void AddBytes(const BenchReport& report, HtmlPage* page) {
  BarChart chart{"Weights read per token", {"MiB", 0, 0}, {"read", "skipped"}, {}};
  HtmlTable table{{"mode", "read", "of dense", "neurons skipped", "gates computed", "recall",
                   "speed-up", "bound by bytes"},
                  {}};
  for (const ModeResult& mode : report.modes) {
    const TouchedBytes& touched = mode.touched;
    chart.x.most = std::max(chart.x.most, touched.dense_bytes / kMiB);
    chart.rows.push_back(
        {Name(mode),
         {touched.bytes / kMiB, std::max(0.0, (touched.dense_bytes - touched.bytes) / kMiB)}});
    table.rows.push_back({Name(mode), FormatBytes(static_cast<uint64_t>(touched.bytes)),
                          fmt::format("{:.0f} %", 100 * touched.bytes / touched.dense_bytes),
                          fmt::format("{:.1f} %", 100 * (1 - touched.mean_density)),
                          fmt::format("{:.1f} %", 100 * touched.mean_gate_density),
                          mode.recall < 0 ? "-" : fmt::format("{:.1f} %", 100 * mode.recall),
                          Numbers(mode.speed_up), fmt::format("{:.2f}", mode.byte_bound)});
  }
  page->AddPicture("Weights read per decoded token",
                   "What a token reads, and what it would have read dense. Bound by bytes is the "
                   "speed-up if both read equally fast.",
                   DrawBars(chart), table);
}

}  // namespace

HtmlPage BenchPage(const BenchReport& report) {
  std::string lead = fmt::format(
      "{} threads, {}.", report.n_threads,
      report.two_tiers ? fmt::format("{:.0f} % of the neurons hot", 100 * report.hot_share)
                       : "one tier");
  if (!report.bandwidths.empty()) {
    lead += fmt::format(" Read bandwidth measured between the prompts: {:.1f} GB/s.",
                        SpreadOf(report.bandwidths).median / 1e9);
  }
  for (const std::string& note : {report.predictor, report.gpu_note, report.mode_note}) {
    if (!note.empty()) lead += " " + note + ".";
  }
  HtmlPage page("Dense and sparse: " + report.model, lead);
  AddSpeeds(report, "Decode", "One token after the other, the modes in turn on the same prompts.",
            &ModeResult::decode_tokens_per_s, &page);
  AddSpeeds(report, "Prefill", "The prompts, in batches.", &ModeResult::prefill_tokens_per_s,
            &page);
  AddBytes(report, &page);
  for (const LayerTimes& times : report.layer_times) AddLayerTimes(times, &page);
  return page;
}

}  // namespace thermocline
