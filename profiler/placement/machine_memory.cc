#include "profiler/placement/machine_memory.h"

#include <fstream>

#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"

namespace thermocline {

std::optional<uint64_t> AvailableMemoryBytes(const std::string& meminfo_path) {
  std::ifstream file(meminfo_path);
  std::string key;
  std::string line;
  while (file >> key) {
    uint64_t kib = 0;
    uint64_t n_bytes = 0;
    if (key == "MemAvailable:" && file >> kib && CheckedMul(kib, 1024, &n_bytes)) return n_bytes;
    if (key == "MemAvailable:") return std::nullopt;
    std::getline(file, line);
  }
  return std::nullopt;
}

uint64_t DefaultRamBytes(uint64_t vram_bytes, bool vram_is_ram) {
  const auto available = AvailableMemoryBytes();
  if (!available) {
    throw Error({.path = "/proc/meminfo",
                 .what = "this machine's free memory is not known",
                 .hint = "say how much may be used",
                 .settings = {{Setting::kRamBudget}}});
  }
  const uint64_t usable = *available / 10 * 9;
  const uint64_t taken = vram_is_ram ? vram_bytes : 0;
  return usable > taken ? usable - taken : 0;
}

}  // namespace thermocline
