// How a model's makers would have its tokens chosen (generation_config.json), as keys of a GGUF.
#pragma once

#include <string>

#include "runtime/import/config_keys.h"

namespace thermocline {

// Returns general.sampling.*; nothing where the directory has no generation_config.json.
GgufKeys SamplingKeys(const std::string& directory);

}  // namespace thermocline
