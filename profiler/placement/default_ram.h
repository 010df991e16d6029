// How much memory a run may take on this machine when the user does not say.
#pragma once

#include <cstdint>

namespace thermocline {

// Returns the default of --ram: 90 % of the available memory, less what the fast tier takes of it
// where no GPU brings memory of its own. Throws Error where the available memory is not known.
uint64_t DefaultRamBytes(uint64_t vram_bytes, bool vram_is_ram);

}  // namespace thermocline
