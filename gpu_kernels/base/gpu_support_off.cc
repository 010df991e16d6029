#include "gpu_kernels/base/gpu_support.h"

namespace thermocline {

GpuSupport QueryGpuSupport() {
  return {.available = false,
          .reason = "this build of thermocline has no GPU tier (built with THERMOCLINE_GPU=off)"};
}

}  // namespace thermocline
