// Scores a token by a stored predictor, through the kernels that also run the model.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu_kernels/kernels.h"
#include "predictor/predictor.h"
#include "runtime/core/aligned_buffer.h"

namespace thermocline {

// One lane's scratch for a predictor of these dimensions.
class LowRankScorer {
 public:
  LowRankScorer(const KernelTable& kernels, const LayerPredictor& predictor);

  // scores[i] = out_proj f(in_proj x), without the bias. x: (d_model). scores: (d_ff).
  void Score(const float* x, float* scores);

 private:
  const KernelTable& kernels_;
  const LayerPredictor& predictor_;
  AlignedBuffer x_;      // prepared for in_proj
  AlignedBuffer inner_;  // (rank) f32
  AlignedBuffer z_;      // the inner vector, prepared for out_proj
};

}  // namespace thermocline
