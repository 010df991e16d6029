// Rotary position embedding (RoFormer, arXiv:2104.09864): the angles, with the context extensions
// that GGUF files describe: linear (positions divided), NTK-aware (a larger base, already in
// freq_base), YaRN (arXiv:2309.00071), llama-3 (a divisor per frequency, in the file) and LongRoPE
// (arXiv:2402.13753; two lists of them). The rotation itself is a kernel.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/model/model.h"

namespace thermocline {

// LongRoPE has one list for contexts up to the original length and one for longer ones: puts that
// of the context in the config. All positions of a context are turned alike.
void ChooseLongRope(int64_t context_tokens, RopeConfig* config);

class RopeAngles {
 public:
  explicit RopeAngles(const RopeConfig& config);
  int64_t n_frequencies() const { return static_cast<int64_t>(frequencies_.size()); }

  // Fills in cos, sin: (n_frequencies) f32, of the angles at `position`, times the attention
  // factor.
  void Fill(int64_t position, float* cos, float* sin) const;

 private:
  std::vector<double> frequencies_;  // radians per position
  double magnitude_ = 1;
};

}  // namespace thermocline
