// The best tokens of a row of logits, found on the GPU so that a whole vocabulary need not cross to
// the host. Greater logits come first, of equal ones (0 and -0 among them) the lowest id. Logits
// that are not finite are left out, as the sampler does. Results depend on the logits alone.
//
// logits: (n_rows, vocab_size) f32 in memory the GPU sees. scratch: the bytes that the function
// beside says, in GPU memory, 8-byte aligned. Asynchronous on `stream`; throws Error on launch.
#pragma once

#include <cstdint>

#include "gpu_kernels/base/stream.h"

namespace thermocline {

struct GpuBestToken {
  int32_t id;   // -1: no logit is finite
  float logit;  // NaN then
  float lead;   // over the second best; infinite where there is none
};

// best: (n_rows) in memory the GPU sees.
void GpuFindBest(Stream& stream, const float* logits, int64_t n_rows, int64_t vocab_size,
                 void* scratch, GpuBestToken* best);
uint64_t GpuFindBestScratchBytes(int64_t n_rows, int64_t vocab_size);

// ids, values: (n_rows, k) in memory the GPU sees, best first; where fewer than k logits are finite
// the rest has id -1 and value NaN. REQUIRES: 1 <= k <= kMaxTopTokens.
inline constexpr int64_t kMaxTopTokens = 1024;
void GpuTopTokens(Stream& stream, const float* logits, int64_t n_rows, int64_t vocab_size,
                  int64_t k, void* scratch, int32_t* ids, float* values);
uint64_t GpuTopTokensScratchBytes(int64_t n_rows, int64_t vocab_size, int64_t k);

}  // namespace thermocline
