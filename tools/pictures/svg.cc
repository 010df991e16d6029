#include "tools/pictures/svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr double kWidth = 720;
constexpr double kLeft = 64;
constexpr double kRight = 28;
constexpr double kLegendHeight = 26;
constexpr double kPlotHeight = 280;
constexpr double kAxisHeight = 44;
constexpr double kRowHeight = 22;
constexpr double kLineHeight = 15;    // of names below each other
constexpr double kLetterWidth = 7.2;  // of the widest usual letters at 12 px
constexpr int kTicks = 5;

std::string PlacedText(double x, double y, const char* classes, std::string_view text) {
  return fmt::format(R"(<text x="{:.1f}" y="{:.1f}" class="{}">{}</text>)", x, y, classes,
                     EscapeMarkup(text));
}

std::string TickText(double value, const ChartAxis& axis) {
  if (axis.percent) return fmt::format("{:.3g} %", 100 * value);
  if (value != 0 && std::abs(value) >= 1000) return fmt::format("{:.0f}", value);
  return fmt::format("{:.3g}", value);
}

// The next of 1, 2, 5 times a power of ten, so that ticks are round numbers.
double RoundStep(double span) {
  const double raw = span > 0 ? span / kTicks : 1;
  const double power = std::pow(10, std::floor(std::log10(raw)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (raw <= factor * power) return factor * power;
  }
  return 10 * power;
}

std::vector<double> Ticks(const ChartAxis& axis) {
  const double step = RoundStep(axis.most - axis.least);
  std::vector<double> ticks;
  for (double i = std::ceil(axis.least / step); i * step <= axis.most * (1 + 1e-9); ++i) {
    ticks.push_back(i * step);
  }
  return ticks;
}

std::string Open(std::string_view title, double height) {
  return fmt::format(R"(<svg viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">)"
                     "\n",
                     kWidth, height, EscapeMarkup(title));
}

// A line of colour samples with names. Their place in the row follows from the names' lengths.
std::string Legend(const std::vector<std::pair<std::string, std::string>>& samples) {
  std::string svg;
  double x = kLeft;
  for (const auto& [sample, name] : samples) {
    svg += fmt::format(R"(<g transform='translate({:.1f} 12)'>{}</g>)", x, sample);
    svg += PlacedText(x + 24, 16, "label", name);
    x += 24 + kLetterWidth * static_cast<double>(name.size()) + 18;
  }
  return svg + "\n";
}

// Maps values to the plot's pixels.
struct Scale {
  ChartAxis axis;
  double from;
  double to;

  double operator()(double value) const {
    const double span = axis.most - axis.least;
    const double share = span > 0 ? (value - axis.least) / span : 0;
    return from + (to - from) * std::clamp(share, 0.0, 1.0);
  }
};

std::string Grid(const Scale& x, const Scale& y) {
  std::string svg;
  for (const double tick : Ticks(x.axis)) {
    svg +=
        fmt::format(R"(<path class="grid" d="M{0:.1f} {1:.1f}V{2:.1f}"/>)", x(tick), y.from, y.to);
    svg += PlacedText(x(tick), y.from + 16, "tick middle", TickText(tick, x.axis));
  }
  for (const double tick : Ticks(y.axis)) {
    svg +=
        fmt::format(R"(<path class="grid" d="M{0:.1f} {1:.1f}H{2:.1f}"/>)", x.from, y(tick), x.to);
    svg += PlacedText(x.from - 6, y(tick) + 4, "tick end", TickText(tick, y.axis));
  }
  svg += PlacedText((x.from + x.to) / 2, y.from + 36, "label middle", x.axis.label);
  svg += fmt::format(
      R"(<text transform='translate(14 {:.1f}) rotate(-90)' class="label middle">{}</text>)",
      (y.from + y.to) / 2, EscapeMarkup(y.axis.label));
  return svg + "\n";
}

std::string LineClass(const ChartLine& line, size_t i) {
  return line.reference ? "line reference" : fmt::format("line s{}", i + 1);
}

// Dots with names. Names that would lie on each other stand below each other.
std::string Markers(const LineChart& chart, const Scale& x, const Scale& y) {
  std::string svg;
  double last_x = -kWidth;
  double last_y = 0;
  for (const ChartMarker& marker : chart.markers) {
    const double at_x = x(marker.x);
    double name_y = y(marker.y) + 4;
    if (std::abs(at_x - last_x) < kLegendHeight) name_y = std::max(name_y, last_y + kLineHeight);
    last_x = at_x;
    last_y = name_y;
    // Below the line that the dot is on, and on the side that has room.
    const bool right = at_x < kWidth / 2;
    svg += fmt::format(R"(<circle class="marker" cx="{:.1f}" cy="{:.1f}" r="4.5"/>)", at_x,
                       y(marker.y));
    svg += PlacedText(at_x + (right ? 9 : -9), name_y + 10, right ? "label" : "label end",
                      marker.name) +
           "\n";
  }
  return svg;
}

}  // namespace

std::string EscapeMarkup(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        escaped += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
    }
  }
  return escaped;
}

std::string DrawLines(const LineChart& chart) {
  CHECK(chart.lines.size() <= kMaxSeries);
  const double top = kLegendHeight;
  const Scale x{chart.x, kLeft, kWidth - kRight};
  const Scale y{chart.y, top + kPlotHeight, top + 6};
  std::vector<std::pair<std::string, std::string>> samples;
  std::string paths;
  for (size_t i = 0; i < chart.lines.size(); ++i) {
    const ChartLine& line = chart.lines[i];
    const std::string classes = LineClass(line, i);
    samples.emplace_back(fmt::format(R"(<path class="{}" d="M0 0H18"/>)", classes), line.name);
    std::string path;
    for (const auto& [px, py] : line.points) {
      path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", x(px), y(py));
    }
    if (!path.empty()) paths += fmt::format(R"(<path class="{}" d="{}"/>)", classes, path) + "\n";
  }
  paths += Markers(chart, x, y);
  return Open(chart.title, top + kPlotHeight + kAxisHeight) + Legend(samples) + Grid(x, y) + paths +
         "</svg>\n";
}

std::string DrawBars(const BarChart& chart) {
  CHECK(chart.series.size() <= kMaxSeries);
  size_t longest = 0;
  for (const BarChart::Row& row : chart.rows) longest = std::max(longest, row.name.size());
  const double left =
      std::min(kWidth / 3, 16 + kLetterWidth * static_cast<double>(std::max<size_t>(longest, 4)));
  const double top = kLegendHeight;
  const double bottom = top + kRowHeight * static_cast<double>(chart.rows.size());
  const Scale x{chart.x, left, kWidth - kRight - 90};
  std::vector<std::pair<std::string, std::string>> samples;
  for (size_t s = 0; s < chart.series.size(); ++s) {
    samples.emplace_back(
        fmt::format(R"(<rect class="bar s{}" y="-6" width="18" height="12"/>)", s + 1),
        chart.series[s]);
  }
  std::string svg = Open(chart.title, bottom + kAxisHeight);
  if (samples.size() > 1) svg += Legend(samples);
  for (const double tick : Ticks(chart.x)) {
    svg += fmt::format(R"(<path class="grid" d="M{:.1f} {:.1f}V{:.1f}"/>)", x(tick), top, bottom);
    svg += PlacedText(x(tick), bottom + 16, "tick middle", TickText(tick, chart.x));
  }
  svg += PlacedText((x.from + x.to) / 2, bottom + 36, "label middle", chart.x.label) + "\n";
  for (size_t r = 0; r < chart.rows.size(); ++r) {
    const BarChart::Row& row = chart.rows[r];
    CHECK(row.values.size() == chart.series.size());
    const double y = top + kRowHeight * static_cast<double>(r);
    svg += PlacedText(left - 6, y + 15, "tick end", row.name);
    double sum = 0;
    for (size_t s = 0; s < row.values.size(); ++s) {
      const double from = x(sum);
      sum += row.values[s];
      svg += fmt::format(
          R"(<rect class="bar s{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>)", s + 1,
          from, y + 3, x(sum) - from, kRowHeight - 6);
    }
    if (!row.note.empty()) svg += PlacedText(x(sum) + 6, y + 15, "tick", row.note);
    svg += "\n";
  }
  return svg + "</svg>\n";
}

std::string DrawHeat(const HeatMap& map) {
  CHECK(!map.rows.empty() && map.row_names.size() == map.rows.size());
  const auto n_columns = static_cast<double>(map.rows.front().size());
  // Many layers share the height; few are not drawn as stripes.
  const double height = std::clamp(320 / static_cast<double>(map.rows.size()), 8.0, 24.0);
  const double width = (kWidth - kLeft - kRight) / n_columns;
  const double top = 6;
  const double bottom = top + height * static_cast<double>(map.rows.size());
  const auto every = static_cast<size_t>(std::ceil(14 / height));  // rows between written names
  std::string svg = Open(map.title, bottom + kAxisHeight);
  for (size_t r = 0; r < map.rows.size(); ++r) {
    CHECK(map.rows[r].size() == map.rows.front().size());
    const double y = top + height * static_cast<double>(r);
    if (r % every == 0) {
      svg += PlacedText(kLeft - 6, y + height / 2 + 4, "tick end", map.row_names[r]);
    }
    for (size_t c = 0; c < map.rows[r].size(); ++c) {
      svg += fmt::format(
          R"(<rect class="heat" x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}" fill-opacity="{:.3f}"/>)",
          kLeft + width * static_cast<double>(c), y, width, height,
          std::clamp(map.rows[r][c], 0.0, 1.0));
    }
    svg += "\n";
  }
  svg +=
      fmt::format(R"(<rect class="frame" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>)",
                  kLeft, top, kWidth - kLeft - kRight, bottom - top);
  svg += PlacedText(kLeft, bottom + 16, "tick", "hottest");
  svg += PlacedText(kWidth - kRight, bottom + 16, "tick end", "coldest");
  svg += PlacedText((kLeft + kWidth - kRight) / 2, bottom + 36, "label middle", map.x_label);
  svg += fmt::format(
      R"(<text transform='translate(14 {:.1f}) rotate(-90)' class="label middle">{}</text>)",
      (top + bottom) / 2, EscapeMarkup(map.y_label));
  return svg + "\n</svg>\n";
}

}  // namespace thermocline
