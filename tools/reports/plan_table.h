// The memory plan as people read it (a table) and as programs do (JSON).
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "runtime/engine/engine.h"

namespace thermocline {

// Returns the last part of a path, for reports.
std::string BaseName(const std::string& path);

// The KV cache by how far back layers look: for each window (0: all positions) how many layers have
// it, for how many positions there is room, and what that takes.
nlohmann::json KvClassesJson(const MemoryPlan& plan);

std::string MemoryPlanTable(const OpenedModel& model);
nlohmann::ordered_json MemoryPlanJson(const OpenedModel& model);

}  // namespace thermocline
