#include "tools/reports/draft_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "runtime/core/size_text.h"
#include "tools/pictures/svg.h"

namespace thermocline {
namespace {

constexpr int64_t kDepths[] = {1, 2, 4, 8, 16, 32};

// Stand-ins in the order in which they first appear, and shares ascending.
struct DraftGrid {
  std::vector<std::string> kinds;
  std::vector<double> shares;
  std::map<std::pair<double, std::string>, const MeasuredDraft*> cells;

  explicit DraftGrid(const DraftSeries& series) {
    for (const MeasuredDraft& draft : series.drafts) {
      const std::string kind = draft.kind.Name();
      if (std::ranges::find(kinds, kind) == kinds.end()) kinds.push_back(kind);
      if (std::ranges::find(shares, draft.share) == shares.end()) shares.push_back(draft.share);
      cells[{draft.share, kind}] = &draft;
    }
    std::ranges::sort(shares);
  }
  const MeasuredDraft* At(double share, const std::string& kind) const {
    const auto cell = cells.find({share, kind});
    return cell == cells.end() ? nullptr : cell->second;
  }
};

const char* AxisOf(const DraftSeries& series) {
  return series.by_bytes ? "share of the neurons' bytes" : "share of the neurons that is hot";
}

std::string CellText(const MeasuredDraft* draft) {
  if (draft == nullptr) return "-";
  return fmt::format("{:.3f}/{:.3f}", draft->acceptance.sampled, draft->acceptance.agreement);
}

HtmlTable GridTable(const DraftSeries& series) {
  const DraftGrid grid(series);
  HtmlTable table;
  table.columns.emplace_back(AxisOf(series));
  for (const std::string& kind : grid.kinds) table.columns.push_back(kind);
  for (const double share : grid.shares) {
    std::vector<std::string> row = {fmt::format("{:.2f}", share)};
    for (const std::string& kind : grid.kinds) row.push_back(CellText(grid.At(share, kind)));
    table.rows.push_back(std::move(row));
  }
  return table;
}

// A picture takes at most kMaxSeries lines: in two halves where there are more stand-ins.
std::vector<std::string> GridPictures(const DraftSeries& series) {
  const DraftGrid grid(series);
  std::vector<std::string> pictures;
  for (size_t first = 0; first < grid.kinds.size(); first += kMaxSeries) {
    LineChart chart{.title = "Acceptance on " + series.text,
                    .x = {.label = AxisOf(series), .percent = true},
                    .y = {.label = "drawn tokens accepted", .percent = true},
                    .lines = {},
                    .markers = {}};
    for (size_t k = first; k < std::min(first + kMaxSeries, grid.kinds.size()); ++k) {
      ChartLine line{.name = grid.kinds[k], .points = {}};
      for (const double share : grid.shares) {
        const MeasuredDraft* const draft = grid.At(share, grid.kinds[k]);
        if (draft != nullptr) line.points.emplace_back(share, draft->acceptance.sampled);
      }
      chart.lines.push_back(std::move(line));
    }
    pictures.push_back(DrawLines(chart));
  }
  return pictures;
}

std::vector<std::vector<std::string>> DepthRows(const std::vector<DraftDepthSeries>& series) {
  std::vector<std::vector<std::string>> rows;
  for (const int64_t depth : kDepths) {
    std::vector<std::string> row = {std::to_string(depth)};
    for (const DraftDepthSeries& s : series) {
      const bool there = static_cast<int64_t>(s.depth.greedy.size()) >= depth;
      row.push_back(there ? fmt::format("{:.2f}/{:.2f}/{:.2f}",
                                        DraftDepth::Length(s.depth.greedy, depth),
                                        DraftDepth::Length(s.depth.sampled, depth),
                                        s.depth.tree[static_cast<size_t>(depth - 1)])
                          : "-");
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace

std::string DraftTable(const DraftSeries& series) {
  if (series.drafts.empty()) return "";
  const HtmlTable table = GridTable(series);
  const int64_t n = series.drafts.front().acceptance.n_positions;
  std::string text =
      fmt::format("{}, {} positions: accepted/same best, by {}\n", series.text, n, AxisOf(series));
  const auto add = [&](const std::vector<std::string>& cells) {
    for (size_t c = 0; c < cells.size(); ++c) {
      text += c == 0 ? fmt::format("{:<8.8}", cells[c]) : fmt::format("{:>13}", cells[c]);
    }
    text += "\n";
  };
  std::vector<std::string> heading = table.columns;
  heading.front() = "share";
  add(heading);
  for (const std::vector<std::string>& row : table.rows) add(row);
  return text + "\n";
}

std::string DraftDepthTable(const std::vector<DraftDepthSeries>& series) {
  if (series.empty()) return "";
  std::string text = fmt::format(
      "tokens accepted of a chain, by its depth, and of a tree of as many tokens ({} each): a "
      "chain "
      "of likeliest\ntokens/one of drawn ones/a tree of likeliest ones\n{:<8}",
      series.front().depth.n_chains, "tokens");
  for (const DraftDepthSeries& s : series) {
    text += fmt::format("{:>24}", fmt::format("{} {}", s.draft, s.text));
  }
  text += "\n";
  for (const std::vector<std::string>& row : DepthRows(series)) {
    text += fmt::format("{:<8}", row.front());
    for (size_t c = 1; c < row.size(); ++c) text += fmt::format("{:>24}", row[c]);
    text += "\n";
  }
  return text + "\n";
}

std::string DraftCandidates(const std::vector<MeasuredDraft>& drafts, const std::string& ranking) {
  if (drafts.empty()) return "";
  std::string text = fmt::format(
      "drafts, neurons ranked by {}, {} held-out "
      "positions:\n{:<10}{:>10}{:>14}{:>14}{:>12}{:>12}\n",
      ranking, drafts.front().acceptance.n_positions, "stand-in", "hot", "bytes/token", "own bytes",
      "accepted", "same best");
  for (const MeasuredDraft& d : drafts) {
    text += fmt::format("{:<10}{:>8.1f} %{:>14}{:>14}{:>12.3f}{:>12.3f}\n", d.kind.Name(),
                        100 * d.hot_share, FormatBytes(d.bytes), FormatBytes(d.own_bytes),
                        d.acceptance.sampled, d.acceptance.agreement);
  }
  return text;
}

HtmlPage DraftPage(const std::string& model, const std::vector<DraftSeries>& series,
                   const std::vector<DraftDepthSeries>& depths) {
  HtmlPage page("Drafts of " + model,
                "How likely tokens that the hot neurons draft are to be accepted by the whole "
                "model, by how many are hot and what stands in for the others.");
  for (const DraftSeries& s : series) {
    if (s.drafts.empty()) continue;
    const std::vector<std::string> pictures = GridPictures(s);
    for (size_t i = 0; i < pictures.size(); ++i) {
      page.AddPicture(fmt::format("{}, by {}", s.text, AxisOf(s)),
                      "One drafted token behind text that the whole model has read: the share of "
                      "drawn tokens that rejection sampling accepts (the table: and how often both "
                      "rank the same token first).",
                      pictures[i], i == 0 ? GridTable(s) : HtmlTable{GridTable(s).columns, {}});
    }
  }
  if (!depths.empty()) {
    HtmlTable table{{"depth"}, DepthRows(depths)};
    LineChart chart{.title = "Accepted tokens by depth",
                    .x = {.label = "drafted tokens", .least = 0, .most = 32},
                    .y = {.label = "chains accepted up to there", .percent = true},
                    .lines = {},
                    .markers = {}};
    for (const DraftDepthSeries& s : depths) {
      table.columns.push_back(s.draft + ", " + s.text);
      if (chart.lines.size() == kMaxSeries) continue;
      ChartLine line{.name = s.draft + ", " + s.text, .points = {}};
      for (size_t d = 0; d < s.depth.greedy.size(); ++d) {
        line.points.emplace_back(static_cast<double>(d + 1), s.depth.greedy[d]);
      }
      chart.lines.push_back(std::move(line));
    }
    page.AddPicture("Chains",
                    "The share of chains of likeliest tokens that are accepted up to a "
                    "depth; the table has the mean number of accepted tokens, of likeliest "
                    "and of drawn ones, and of trees of as many likeliest tokens.",
                    DrawLines(chart), table);
  }
  return page;
}

}  // namespace thermocline
