#include "tools/reports/drift_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "tools/pictures/svg.h"

namespace thermocline {
namespace {

constexpr const char* kDriftLegend =
    "the share of activations on the fast tier while one text follows another:\n"
    "fixed: the placement as it is; moving: neurons change tiers as in a run with --adapt on\n"
    "best: the best that one could have chosen knowing the text, of as many neurons per layer\n"
    "lost: what fixed misses of best; recovered: how much of that moving brings back\n";

double CoveredShare(double part, const DriftedText& text) {
  return text.activations > 0 ? part / text.activations : 0;
}
std::string CoveredText(double share) { return fmt::format("{:.1f} %", 100 * share); }

DriftedText SumOfTexts(std::span<const DriftedText> texts) {
  DriftedText sum;
  for (const DriftedText& text : texts) sum.Add(text);
  return sum;
}

std::string RecoveredText(const DriftedText& text) {
  return text.Lost() > 0 ? fmt::format("{:.0f} %", 100 * text.Recovered()) : "-";
}

}  // namespace

std::string DriftTable(std::span<const DriftedText> texts, const MoveOptions& options) {
  size_t width = 16;
  for (const DriftedText& text : texts) width = std::max(width, text.name.size());
  std::string table =
      fmt::format("{:<{}} {:>8} {:>8} {:>8} {:>8} {:>8} {:>10} {:>8}\n", "text", width, "tokens",
                  "fixed", "moving", "best", "lost", "recovered", "swaps");
  const auto row = [&](const std::string& name, const DriftedText& text) {
    table += fmt::format(
        "{:<{}} {:>8} {:>8} {:>8} {:>8} {:>8} {:>10} {:>8}\n", name, width, text.n_tokens,
        CoveredText(CoveredShare(text.fixed, text)), CoveredText(CoveredShare(text.moving, text)),
        CoveredText(CoveredShare(text.best, text)), CoveredText(CoveredShare(text.Lost(), text)),
        RecoveredText(text), text.n_swaps);
  };
  for (const DriftedText& text : texts) row(text.name, text);
  if (texts.size() > 2) row("all but the first", SumOfTexts(texts.subspan(1)));
  return table + kDriftLegend +
         fmt::format(
             "up to {} neurons of a layer change places at a time, and a layer has its turn "
             "every {} tokens\n",
             options.max_swaps, options.tokens_between);
}

void AddDrift(std::span<const DriftedText> texts, HtmlPage* page) {
  BarChart chart{"Coverage of texts one after another",
                 {"activations covered", 0, 0, true},
                 {"fixed placement", "more by moving", "more by the best"},
                 {}};
  HtmlTable table{{"text", "tokens", "fixed", "moving", "best of its own", "lost", "recovered"},
                  {}};
  for (const DriftedText& text : texts) {
    const double fixed = CoveredShare(text.fixed, text);
    const double moving = std::max(fixed, CoveredShare(text.moving, text));
    const double best = std::max(moving, CoveredShare(text.best, text));
    chart.x.most = std::max(chart.x.most, best);
    chart.rows.push_back({text.name, {fixed, moving - fixed, best - moving}});
    table.rows.push_back({text.name, fmt::format("{}", text.n_tokens), CoveredText(fixed),
                          CoveredText(CoveredShare(text.moving, text)),
                          CoveredText(CoveredShare(text.best, text)),
                          CoveredText(CoveredShare(text.Lost(), text)), RecoveredText(text)});
  }
  page->AddPicture("Hot sets that follow the text",
                   "The share of activations on the fast tier while one text follows another: with "
                   "the placement "
                   "as it is, what moving neurons adds, and what the best placement of that very "
                   "text would add.",
                   DrawBars(chart), table);
}

}  // namespace thermocline
