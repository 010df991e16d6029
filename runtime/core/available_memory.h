// How much memory new work can have on this machine.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace thermocline {

struct AvailableMemory {
  uint64_t n_bytes = 0;
  std::string limited_by;  // "this machine", or "the control group /NAME"
};

// Returns what can be had without swapping: MemAvailable of /proc/meminfo or, where that is less,
// what a control group of this process leaves. Of what a group uses, cached file pages count as
// free, since the kernel gives them back (a model that is mapped again is among them). Returns
// nullopt where neither is known. `root` stands for "/", for tests.
std::optional<AvailableMemory> QueryAvailableMemory(const std::string& root = "/");

// Returns the most that this process has had in memory at a time, mapped files included; nullopt
// where the system does not say.
std::optional<uint64_t> PeakResidentBytes(const std::string& root = "/");

}  // namespace thermocline
