// What ways to place neurons are expected to take, as people read it and as programs do.
#pragma once

#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "profiler/placement/draft_cost.h"
#include "profiler/placement/place_by_time.h"

namespace thermocline {

// A row per strategy, then where the bytes of each layer lie with the first.
std::string SplitsTable(std::span<const RatedSplit> splits, int64_t d_ff);
nlohmann::ordered_json SplitsJson(std::span<const RatedSplit> splits);

// What the best split takes with one budget of a sweep.
struct SweepPoint {
  uint64_t vram_bytes = 0;
  RatedSplit best;
};
std::string SweepTable(std::span<const SweepPoint> points);
nlohmann::ordered_json SweepJson(std::span<const SweepPoint> points);

// The split that drafting wants and what it is expected to bring, beside plain decoding with the
// best split for that.
std::string DraftingTable(const RatedSplit& plain, const DraftedSplit& drafted,
                          const DraftFile& draft);
nlohmann::ordered_json DraftingJson(const RatedSplit& plain, const DraftedSplit& drafted);

}  // namespace thermocline
