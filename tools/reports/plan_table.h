// The memory plan as people read it (a table) and as programs do (JSON).
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "runtime/engine/engine.h"

namespace thermocline {

// Returns the last part of a path, for reports.
std::string BaseName(const std::string& path);

std::string MemoryPlanTable(const OpenedModel& model);
nlohmann::ordered_json MemoryPlanJson(const OpenedModel& model);

}  // namespace thermocline
