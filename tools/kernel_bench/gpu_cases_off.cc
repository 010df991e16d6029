#include "tools/kernel_bench/gpu_cases.h"

namespace thermocline {

void RegisterGpuCases() {}
void ReleaseGpuCases() {}

}  // namespace thermocline
