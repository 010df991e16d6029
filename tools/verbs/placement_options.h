// What `profile` and `place` share: the flags that describe the run a placement is for, and the
// tables both print.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "profiler/activations/coverage.h"
#include "profiler/placement/place_by_time.h"
#include "runtime/engine/engine.h"
#include "runtime/rates/machine_rates.h"

namespace thermocline {

struct PlacementArgs {
  EngineOptions engine;
  uint64_t vram_bytes = 0;
  uint64_t ram_bytes = 0;
  bool vram_auto = false;  // --vram auto: SettleBudgets fills vram_bytes
  bool ram_auto = false;
  double hot_fraction = 0;
  std::string rates_path;
  std::string objective = "auto";
  std::optional<MachineRates> rates;  // SettleRates fills it in
  CLI::Option* vram = nullptr;
  CLI::Option* ram = nullptr;
  CLI::Option* hot = nullptr;

  // By the time of a token, or by activations per byte.
  bool by_time(const OpenedModel& model) const;
  bool wants_placement() const { return vram->count() + hot->count() > 0; }
};

// Adds -m, -t and those of AddBudgetOptions. `args` must outlive the parsing.
void AddPlacementOptions(CLI::App& verb, PlacementArgs* args);
// Adds --vram, --ram, --hot, and -c, -b of the runs to place for.
void AddBudgetOptions(CLI::App& verb, PlacementArgs* args);

// Fills in the default of --ram, and what auto stands for. Returns a line that says what budgets
// are used.
std::string SettleBudgets(PlacementArgs* args);
// Finds the rates of this machine: those of --rates, else of the cache, else, where the placement
// or `needed` asks for them, measured now. draft: null, or what is rated beside the model. Returns
// a line that says which, or an empty text.
std::string SettleRates(const OpenedModel& model, bool needed, PlacementArgs* args,
                        const DraftFile* draft = nullptr);
// Whether there are rates of a file, or kept ones.
bool HasRates(const std::string& rates_path);
// The same for who only uses rates that are there: those of a file, else of the cache, with what
// they lack of the model's types measured. Null where there are none, or where the model's neurons
// are not skipped exactly.
std::shared_ptr<const MachineRates> RatesForBatches(const OpenedModel& model,
                                                    const std::string& rates_path);
// What a token is to take by them. REQUIRES: rates.
TimeGoal GoalOf(const OpenedModel& model, const PlacementArgs& args);
// Throws where the budgets cannot work, before the long work.
void CheckPlacementArgs(const OpenedModel& model, const PlacementArgs& args);
SolvedPlacement SolvePlacement(const OpenedModel& model, const ProfileStats& stats,
                               const PlacementArgs& args);

// Returns one row per layer and the totals, then what the columns mean. It leaves out the columns
// of a placement or of the LRU where there is none.
std::string CoverageTable(const CoverageReport& report, bool placed, bool lru);

}  // namespace thermocline
