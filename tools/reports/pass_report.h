// Where a decoded token's time goes on the GPU and on the CPU threads beside it, how long each of
// them has nothing to do, and what crosses the bus: the measurement behind `bench` with a GPU. It
// decodes in a run of its own, since stamps on the GPU's stream take time that the speeds must not
// hold.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "runtime/engine/engine.h"
#include "runtime/timing/pass_profile.h"
#include "tools/bench/compare_modes.h"

namespace thermocline {

struct PassReport {
  SparseMode mode = SparseMode::kDense;
  std::string gpu;      // the GPU's name; empty: none
  PassProfile profile;  // profile of decoded tokens
};

// Feeds the prompt, then decodes greedily with the profile on.
void DecodeProfiled(Engine& engine, const std::vector<int32_t>& prompt, int64_t n_tokens,
                    PassProfile* profile);

// Decodes after the first few prompts. keep_spans: what PassProfile takes.
PassReport MeasurePasses(Engine& engine, SparseMode mode,
                         const std::vector<std::vector<int32_t>>& prompts,
                         const ComparisonOptions& options, int64_t keep_spans);

// Returns the report as a table, or as JSON. REQUIRES: measured with a GPU.
std::string PassTable(const PassReport& report);
nlohmann::ordered_json PassJson(const PassReport& report);

}  // namespace thermocline
