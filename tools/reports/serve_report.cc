#include "tools/reports/serve_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "runtime/core/size_text.h"
#include "tools/pictures/svg.h"

namespace thermocline {
namespace {

std::string TimesText(const TimesMs& times) {
  return fmt::format("{:>10.1f}{:>10.1f}{:>10.1f}{:>10.1f}", times.p50, times.p90, times.p99,
                     times.mean);
}

nlohmann::ordered_json TimesJson(const TimesMs& times) {
  return {{"p50", times.p50},
          {"p90", times.p90},
          {"p99", times.p99},
          {"mean", times.mean},
          {"n", times.n}};
}

int64_t NumFailed(const ServeResult& result) {
  return static_cast<int64_t>(result.texts.size()) - result.n_served;
}

uint64_t ToUnsigned(int64_t n) { return static_cast<uint64_t>(n); }

double UnsharedRatio(const ScheduleStats& stats) {
  return static_cast<double>(stats.kv_bytes.unshared) /
         static_cast<double>(std::max<int64_t>(1, stats.kv_bytes.read));
}

std::string BoundsText(const ServeBounds& bounds) {
  std::string text;
  if (bounds.ttft_ms > 0) text += fmt::format("first token within {:g} ms", bounds.ttft_ms);
  if (bounds.gap_ms > 0) {
    text += fmt::format("{}every gap within {:g} ms", text.empty() ? "" : ", ", bounds.gap_ms);
  }
  return text.empty() ? "no bound" : text;
}

// The share of times up to each, as a line of at most kPoints points.
ChartLine ShareLine(const std::string& name, std::vector<double> ms) {
  constexpr size_t kPoints = 200;
  std::ranges::sort(ms);
  ChartLine line{name, {}};
  const size_t step = std::max<size_t>(1, ms.size() / kPoints);
  for (size_t i = 0; i < ms.size(); i += step) {
    line.points.emplace_back(ms[i], static_cast<double>(i + 1) / static_cast<double>(ms.size()));
  }
  if (!ms.empty()) line.points.emplace_back(ms.back(), 1.0);
  return line;
}

void AddShares(const char* heading, const char* text, std::vector<double> ms, HtmlPage* page) {
  const TimesMs times = PercentilesOf(ms);
  LineChart chart{heading, {"ms"}, {"share", 0, 1, true}, {}, {}};
  chart.x.most = ms.empty() ? 1 : std::ranges::max(ms);
  chart.lines.push_back(ShareLine(heading, std::move(ms)));
  const HtmlTable table{{"", "p50", "p90", "p99", "mean"},
                        {{"ms", fmt::format("{:.1f}", times.p50), fmt::format("{:.1f}", times.p90),
                          fmt::format("{:.1f}", times.p99), fmt::format("{:.1f}", times.mean)}}};
  page->AddPicture(heading, text, DrawLines(chart), table);
}

// What the scheduler did, where it is known.
std::string StatsText(const ScheduleStats& s) {
  std::string text = fmt::format("{:<26}{} read, {} found in the cache\n", "prompt tokens",
                                 s.prompt_tokens, s.cached_tokens);
  text += fmt::format(
      "{:<26}{}, {:.1f} texts in each\n", "passes", s.n_passes,
      static_cast<double>(s.n_busy_slots) / static_cast<double>(std::max<int64_t>(1, s.n_passes)));
  if (s.speculation.n_drafted > 0) {
    text += fmt::format("{:<26}{} drafted, {} accepted\n", "tokens of drafts",
                        s.speculation.n_drafted, s.speculation.n_accepted);
  }
  text += fmt::format("{:<26}{:.2f} s with pieces of prompts, {:.2f} s without\n", "in passes",
                      s.reading_ms / 1000, s.writing_ms / 1000);
  text += fmt::format("{:<26}{}, {} tokens fed again\n", "sent away for pages", s.n_preempted,
                      s.tokens_again);
  text +=
      fmt::format("{:<26}{} ({:.2f} times that, if no pages were shared)\n", "keys and values read",
                  FormatBytes(ToUnsigned(s.kv_bytes.read)), UnsharedRatio(s));
  if (s.host_pages.n_out > 0) {
    text += fmt::format("{:<26}{} out, {} back, {:.1f} ms\n", "pages in host memory",
                        s.host_pages.n_out, s.host_pages.n_back, s.host_pages.copy_ms);
  }
  return text;
}

void AddStats(const ScheduleStats& s, nlohmann::ordered_json* json) {
  json->update({{"prompt_tokens", s.prompt_tokens},
                {"cached_tokens", s.cached_tokens},
                {"drafted_tokens", s.speculation.n_drafted},
                {"accepted_tokens", s.speculation.n_accepted},
                {"passes", s.n_passes},
                {"preempted", s.n_preempted},
                {"tokens_again", s.tokens_again},
                {"reading_ms", s.reading_ms},
                {"writing_ms", s.writing_ms},
                {"kv_read_bytes", s.kv_bytes.read},
                {"kv_unshared_bytes", s.kv_bytes.unshared},
                {"kv_host_pages_out", s.host_pages.n_out},
                {"kv_host_pages_back", s.host_pages.n_back},
                {"kv_host_copy_ms", s.host_pages.copy_ms}});
}

}  // namespace

std::string ServeTable(const ServeReport& report) {
  const ServeResult& r = report.result;
  const std::string where = r.stats
                                ? fmt::format("{} threads, {} slots", report.n_threads, r.n_slots)
                                : "at " + report.url;
  std::string text = fmt::format("{}, {}: {} requests in {:.2f} s\n\n", report.model, where,
                                 r.texts.size(), r.all_ms / 1000);
  text += fmt::format("{:<26}{:>10}{:>10}{:>10}{:>10}\n", "ms", "p50", "p90", "p99", "mean");
  text += fmt::format("{:<26}{}\n", "to the first token", TimesText(r.ttft));
  text += fmt::format("{:<26}{}\n\n", "from token to token", TimesText(r.gaps));
  text += fmt::format("{:<26}{:.1f}\n", "generated tokens/s", r.tokens_per_s);
  text += fmt::format("{:<26}{:.2f}\n", "requests/s", r.requests_per_s);
  text += fmt::format("{:<26}{:.2f}, {} of {} ({})\n", "goodput, requests/s", r.well_per_s,
                      r.n_well, r.texts.size(), BoundsText(report.bounds));
  if (r.stats) text += StatsText(*r.stats);
  if (NumFailed(r) > 0) text += fmt::format("{:<26}{}\n", "not served", NumFailed(r));
  return text;
}

std::string ServeJson(const ServeReport& report) {
  const ServeResult& r = report.result;
  nlohmann::ordered_json json = {{"model", report.model},
                                 {"requests", r.texts.size()},
                                 {"served", r.n_served},
                                 {"seconds", r.all_ms / 1000},
                                 {"ttft_ms", TimesJson(r.ttft)},
                                 {"inter_token_ms", TimesJson(r.gaps)},
                                 {"generated_tokens_per_s", r.tokens_per_s},
                                 {"requests_per_s", r.requests_per_s},
                                 {"goodput_requests_per_s", r.well_per_s},
                                 {"ttft_bound_ms", report.bounds.ttft_ms},
                                 {"inter_token_bound_ms", report.bounds.gap_ms}};
  if (r.stats) {
    json["threads"] = report.n_threads;
    json["slots"] = r.n_slots;
    AddStats(*r.stats, &json);
  } else {
    json["url"] = report.url;
  }
  return json.dump(2) + "\n";
}

HtmlPage ServePage(const ServeReport& report) {
  const ServeResult& r = report.result;
  HtmlPage page("Serving " + report.model,
                fmt::format("{} requests, {} at a time at most, {:.1f} generated tokens/s.",
                            r.texts.size(), r.n_slots, r.tokens_per_s));
  std::vector<double> ttft;
  std::vector<double> gaps;
  for (const ServedText& text : r.texts) {
    if (text.reason != EndReason::kTokenLimit) continue;
    ttft.push_back(text.ttft_ms);
    gaps.insert(gaps.end(), text.gaps_ms.begin(), text.gaps_ms.end());
  }
  AddShares("Time to the first token", "The share of requests whose first token had come.",
            std::move(ttft), &page);
  AddShares("Time from token to token", "The share of tokens that came so soon behind the last.",
            std::move(gaps), &page);
  const HtmlTable rates{{"", "per second"},
                        {{"generated tokens", fmt::format("{:.1f}", r.tokens_per_s)},
                         {"requests", fmt::format("{:.2f}", r.requests_per_s)},
                         {"requests within the bounds", fmt::format("{:.2f}", r.well_per_s)}}};
  page.AddTable("Rates", BoundsText(report.bounds), rates);
  return page;
}

}  // namespace thermocline
