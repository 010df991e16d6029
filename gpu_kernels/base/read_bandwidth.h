// Plain reads of the GPU's memory: the roof that kernels are measured against.
#pragma once

#include <cstdint>

#include "gpu_kernels/base/stream.h"

namespace thermocline {

// *sum += the 32-bit words at data, modulo 2^32: what a GPU reads in 16-byte loads, one word after
// the other, with nothing else to do. data: n_bytes in memory the GPU sees, a multiple of 16,
// 16-byte aligned. sum: on the GPU. Asynchronous on `stream`; throws Error on launch.
void GpuReadWords(Stream& stream, const void* data, uint64_t n_bytes, uint32_t* sum);

}  // namespace thermocline
