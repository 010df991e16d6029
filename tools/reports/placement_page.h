// The pages of `profile --report` and `place --report`: which neurons fire, what a placement covers
// and where the bytes lie.
#pragma once

#include <utility>
#include <vector>

#include "profiler/activations/coverage.h"
#include "profiler/activations/drift.h"
#include "profiler/activations/profile_stats.h"
#include "runtime/engine/opened_model.h"
#include "tools/pictures/html_page.h"
#include "tools/reports/placement_report.h"

namespace thermocline {

// What `place --explain` and `--sweep` found; empty where they were not asked for.
struct PlacementTimes {
  std::vector<RatedSplit> splits;
  std::vector<SweepPoint> sweep;
};

// Coverage where neurons move, by the share of each layer's that is hot, and of texts one after
// another; empty where that was not asked for.
struct PlacementMoves {
  std::vector<std::pair<double, double>> held_out;  // (share, coverage) of the held-out text
  std::vector<DriftedText> texts;
};

// placed: opened with the placement that the coverage is of; null where none was made.
HtmlPage PlacementPage(const OpenedModel& model, const ProfileStats& stats,
                       const CoverageReport& coverage, const OpenedModel* placed,
                       const PlacementTimes& times = {}, const PlacementMoves& moves = {});

}  // namespace thermocline
