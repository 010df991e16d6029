// Where batches computed the neurons that a GPU does not hold, and the rates it was chosen by.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "runtime/device/stream_choice.h"

namespace thermocline {

// Returns one line without a line break; empty where there was nothing to choose.
std::string StreamUseText(const StreamUse& use);
// Returns null where there was nothing to choose.
nlohmann::ordered_json StreamUseJson(const StreamUse& use);

}  // namespace thermocline
