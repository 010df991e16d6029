// What `profile` and `place` share: the flags that describe the run a placement is for, and the
// tables both print.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>

#include "profiler/activations/coverage.h"
#include "profiler/placement/place.h"
#include "runtime/engine/engine.h"

namespace thermocline {

struct PlacementArgs {
  EngineOptions engine;
  uint64_t vram_bytes = 0;
  uint64_t ram_bytes = 0;
  double hot_fraction = 0;
  CLI::Option* vram = nullptr;
  CLI::Option* ram = nullptr;
  CLI::Option* hot = nullptr;

  bool wants_placement() const { return vram->count() + hot->count() > 0; }
};

// Adds -m, -t and those of AddBudgetOptions. `args` must outlive the parsing.
void AddPlacementOptions(CLI::App& verb, PlacementArgs* args);
// Adds --vram, --ram, --hot, and -c, -b of the runs to place for.
void AddBudgetOptions(CLI::App& verb, PlacementArgs* args);

// Fills in the default of --ram. Returns a line that says what budgets are used.
std::string SettleBudgets(PlacementArgs* args);
// Throws where the budgets cannot work, before the long work.
void CheckPlacementArgs(const OpenedModel& model, const PlacementArgs& args);
SolvedPlacement SolvePlacement(const OpenedModel& model, const ProfileStats& stats,
                               const PlacementArgs& args);

// Returns one row per layer and the totals, then what the columns mean. It leaves out the columns
// of a placement or of the LRU where there is none.
std::string CoverageTable(const CoverageReport& report, bool placed, bool lru);

}  // namespace thermocline
