// The machine's rates as people read them (a table) and as programs do (JSON).
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "runtime/rates/machine_rates.h"

namespace thermocline {

std::string RatesTable(const MachineRates& rates);
nlohmann::ordered_json RatesJson(const MachineRates& rates);

}  // namespace thermocline
