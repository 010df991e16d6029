// What this build and this machine can do on a GPU. The answer is a sentence, because "no" has two
// reasons (the build, the machine) and the user must learn which.
#pragma once

#include <string>

namespace thermocline {

struct GpuSupport {
  bool available = false;
  std::string reason;  // when not available: why, in words for the user
};

GpuSupport QueryGpuSupport();

}  // namespace thermocline
