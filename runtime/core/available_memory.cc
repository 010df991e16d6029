#include "runtime/core/available_memory.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string_view>

#include "runtime/core/checked_math.h"
#include "runtime/core/control_groups.h"

namespace thermocline {
namespace {

namespace fs = std::filesystem;

// The value of "KEY:   123 kB" in a file of such lines.
std::optional<uint64_t> BytesOf(std::string_view wanted, const fs::path& path) {
  std::ifstream file(path);
  std::string key;
  std::string rest;
  while (file >> key) {
    uint64_t kib = 0;
    uint64_t n_bytes = 0;
    if (key == wanted) {
      if (file >> kib && CheckedMul(kib, 1024, &n_bytes)) return n_bytes;
      return std::nullopt;
    }
    std::getline(file, rest);
  }
  return std::nullopt;
}

// A file that holds one number; nullopt for "max", too.
std::optional<uint64_t> NumberIn(const fs::path& path) {
  std::ifstream file(path);
  uint64_t value = 0;
  if (file >> value) return value;
  return std::nullopt;
}

// Of a memory.stat: pages of files that the kernel can give back.
uint64_t CachedFileBytes(const fs::path& stat, bool unified) {
  const std::string prefix = unified ? "" : "total_";  // with the groups below
  std::ifstream file(stat);
  uint64_t sum = 0;
  std::string key;
  uint64_t n_bytes = 0;
  while (file >> key >> n_bytes) {
    const bool counts = key == prefix + "active_file" || key == prefix + "inactive_file";
    if (counts && !CheckedAdd(sum, n_bytes, &sum)) return 0;
  }
  return sum;
}

// nullopt where the group sets no limit.
std::optional<uint64_t> LeftInGroup(const ControlGroup& group) {
  const auto number = [&](const char* unified_name, const char* name) {
    return NumberIn(group.directory / (group.unified ? unified_name : name));
  };
  std::optional<uint64_t> limit = number("memory.max", "memory.limit_in_bytes");
  if (group.unified) {
    // Above it the kernel slows the group down to where it stands still.
    const std::optional<uint64_t> high = NumberIn(group.directory / "memory.high");
    if (high && (!limit || *high < *limit)) limit = high;
  }
  const std::optional<uint64_t> used = number("memory.current", "memory.usage_in_bytes");
  if (!limit || !used) return std::nullopt;
  const uint64_t cached = CachedFileBytes(group.directory / "memory.stat", group.unified);
  const uint64_t kept = *used - std::min(*used, cached);
  return *limit - std::min(*limit, kept);
}

}  // namespace

std::optional<AvailableMemory> QueryAvailableMemory(const std::string& root) {
  std::optional<AvailableMemory> least;
  if (const auto n_bytes = BytesOf("MemAvailable:", fs::path(root) / "proc/meminfo")) {
    least = {*n_bytes, "this machine"};
  }
  for (const ControlGroup& group : ControlGroupsOf("memory", root)) {
    const std::optional<uint64_t> left = LeftInGroup(group);
    if (left && (!least || *left < least->n_bytes)) {
      least = {*left, "the control group " + group.name};
    }
  }
  return least;
}

std::optional<uint64_t> PeakResidentBytes(const std::string& root) {
  return BytesOf("VmHWM:", fs::path(root) / "proc/self/status");
}

}  // namespace thermocline
