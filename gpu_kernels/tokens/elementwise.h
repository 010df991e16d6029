// Steps that go element by element.
#pragma once

#include <cstdint>

#include "gpu_kernels/base/stream.h"

namespace thermocline {

// y[i] += x[i]. y, x: (n) f32 in memory the GPU sees, aligned to 4 bytes. Asynchronous on `stream`;
// throws Error on launch.
void GpuAdd(Stream& stream, float* y, const float* x, int64_t n);

}  // namespace thermocline
