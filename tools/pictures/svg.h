// Charts as inline SVG: text, without scripts, fonts or anything else from outside. Colours are
// classes that the page defines (html_page.h), so that a chart reads in light, in dark and in
// print.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace thermocline {

// Text as it may stand between tags and in attributes: &, <, >, quotes and control characters are
// replaced.
std::string EscapeMarkup(std::string_view text);

struct ChartAxis {
  std::string label;
  double least = 0;
  double most = 1;
  bool percent = false;  // ticks are written as 100 times the value, with a % sign
};

struct ChartLine {
  std::string name;
  std::vector<std::pair<double, double>> points;  // x ascending
  // Drawn apart from the others: a reference, not a measurement.
  bool reference = false;
};

// Single values beside lines, such as what one placement reaches.
struct ChartMarker {
  std::string name;
  double x = 0;
  double y = 0;
};

struct LineChart {
  std::string title;  // read out by screen readers
  ChartAxis x;
  ChartAxis y;
  std::vector<ChartLine> lines;  // at most kMaxSeries
  std::vector<ChartMarker> markers;
};

// A row per item, a stretch per series, end to end from 0.
struct BarChart {
  std::string title;
  ChartAxis x;
  std::vector<std::string> series;  // at most kMaxSeries
  struct Row {
    std::string name;
    std::vector<double> values;  // by series
    std::string note = {};       // written behind the bar
  };
  std::vector<Row> rows;
};

// A grid of shares from 0 to 1, pale to strong.
struct HeatMap {
  std::string title;
  std::string x_label;
  std::string y_label;
  std::vector<std::string> row_names;
  std::vector<std::vector<double>> rows;  // each as long as the first
};

inline constexpr size_t kMaxSeries = 5;  // colours that can be told apart

std::string DrawLines(const LineChart& chart);
std::string DrawBars(const BarChart& chart);
std::string DrawHeat(const HeatMap& map);

}  // namespace thermocline
