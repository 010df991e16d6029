// Several arrays in one allocation.
#pragma once

#include <cstdint>

#include "runtime/core/checked_math.h"

namespace thermocline {

// n_bytes rounded up to where the next array may begin.
inline uint64_t PlaneBytes(uint64_t n_bytes) {
  constexpr int64_t kAlignment = 256;
  return static_cast<uint64_t>(AlignUp(static_cast<int64_t>(n_bytes), kAlignment));
}

}  // namespace thermocline
