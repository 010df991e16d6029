// What this build and this machine can do on a GPU. The answer is a sentence, because "no" has
// several reasons (the build, the driver, no device, too old a device) and the user must learn
// which.
#pragma once

#include <string>

namespace thermocline {

struct GpuSupport {
  bool available = false;
  bool emulated = false;    // by the CPU, for tests
  std::string reason = {};  // when not available: why, in words for the user
  std::string device = {};  // when available: its name, compute capability and memory
};

GpuSupport QueryGpuSupport();

}  // namespace thermocline
