// Rows of weights that take the place of others, many in one launch.
#pragma once

#include <cstdint>

#include "gpu_kernels/base/stream.h"

namespace thermocline {

// n_words words of 32 bits, both ends aligned to them. All lies on the GPU.
struct GpuRowMove {
  const uint32_t* from;
  uint32_t* to;
  int64_t n_words;
};

// Carries out all of the moves, in any order. moves: (n_moves) on the GPU; no two write to the same
// place. Asynchronous on `stream`; throws Error on launch.
void GpuMoveRows(Stream& stream, const GpuRowMove* moves, int64_t n_moves);

}  // namespace thermocline
