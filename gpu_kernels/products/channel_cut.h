// Which channels a token reads.
#pragma once

#include <cstdint>

#include "gpu_kernels/base/pass_inputs.h"

namespace thermocline {

// Token t is cut where its position is first_position or more: of it channel j counts where
// |x_j| factors[j] >= least, and is 0 elsewhere. NaN counts, so that garbage stays visible.
struct GpuRowCut {
  const GpuPassRow* rows = nullptr;  // (n_tokens) on the GPU; null: no token is cut
  int32_t first_position = 0;
  float least = 0;
  const float* factors = nullptr;  // (n) on the GPU, or null: all 1

  bool cuts() const { return rows != nullptr; }
};

// The same for tokens from `first` on.
inline GpuRowCut CutFrom(GpuRowCut cut, int64_t first) {
  if (cut.rows != nullptr) cut.rows += first;
  return cut;
}

}  // namespace thermocline
