// Which mode and batches verbs that score texts run with.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "runtime/engine/engine_options.h"

namespace thermocline {

// Settles the mode, dense unless something else is asked for, and a batch size with which the mode
// is what runs. sparse, batch: the verb's options. A usage error for a batch that would run dense.
void SettleScoredMode(const std::string& verb, const CLI::Option& sparse, const CLI::Option& batch,
                      EngineOptions* engine);

}  // namespace thermocline
