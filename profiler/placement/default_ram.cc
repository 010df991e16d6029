#include "profiler/placement/default_ram.h"

#include "runtime/core/available_memory.h"
#include "runtime/core/error.h"

namespace thermocline {

uint64_t DefaultRamBytes(uint64_t vram_bytes, bool vram_is_ram) {
  const auto available = QueryAvailableMemory();
  if (!available) {
    throw Error({.path = "/proc/meminfo",
                 .what = "this machine's free memory is not known",
                 .hint = "say how much may be used",
                 .settings = {{Setting::kRamBudget}}});
  }
  const uint64_t usable = available->n_bytes / 10 * 9;
  const uint64_t taken = vram_is_ram ? vram_bytes : 0;
  return usable > taken ? usable - taken : 0;
}

}  // namespace thermocline
