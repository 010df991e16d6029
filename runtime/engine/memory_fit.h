// Whether a run fits the memory that there is, which is known before anything is loaded.
#pragma once

#include <cstdint>
#include <optional>

#include "runtime/core/available_memory.h"
#include "runtime/engine/opened_model.h"

namespace thermocline {

// Returns what the plan takes of the host's memory: of the tiers that lie there, mapped weights
// included.
uint64_t PlannedHostBytes(const OpenedModel& model);

// Throws Error where the plan takes more of the host's memory than is available, or of a GPU's; it
// names the least change of batch, KV cache or context with which the run fits, or says that the
// weights alone do not. Does nothing where the available memory is not known, and for the host's
// where the options overcommit.
void RequireMemory(const OpenedModel& model, const std::optional<AvailableMemory>& available);

}  // namespace thermocline
