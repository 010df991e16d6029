// Progress of long work, reported by the lower layers and drawn by the command line.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace thermocline {

// Tells that `done` of `total` units are done of what `label` says. It is called from one thread,
// often; the receiver thins out.
using ProgressFn = std::function<void(const std::string& label, uint64_t done, uint64_t total)>;

inline void Report(const ProgressFn& progress, const std::string& label, uint64_t done,
                   uint64_t total) {
  if (progress) progress(label, done, total);
}

}  // namespace thermocline
