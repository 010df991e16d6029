// The relative bias of attention's scores on the CPU.
#pragma once

#include <cstdint>

#include "cpu_kernels/kernels.h"
#include "runtime/device/ops.h"

namespace thermocline {

// Adds the bias of a head to its scores of the keys at positions [begin, end), for a query at
// `position`. Keys farther than max_distance have the bias of that distance. scores: (end - begin).
void AddRelativeBias(const KernelTable& kernels, const RelativeBias& bias, int64_t head,
                     int64_t position, int64_t begin, int64_t end, float* scores);

}  // namespace thermocline
