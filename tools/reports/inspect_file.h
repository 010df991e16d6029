// Gathers what is in a GGUF file, ours or any other, once; it is printed as JSON or as text.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "runtime/gguf/gguf_reader.h"

namespace thermocline {

// Returns sizes in bytes and counts as numbers; arrays of the metadata are cut to their first
// elements. Parts that do not apply to the kind of file are absent. Throws Error for a placement or
// a predictor that contradicts itself.
nlohmann::ordered_json InspectFile(const GgufReader& gguf);

std::string InspectionText(const nlohmann::ordered_json& inspection);

}  // namespace thermocline
