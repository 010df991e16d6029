// Rotary position embedding (RoFormer, arXiv:2104.09864) and the append to the KV cache, in one
// kernel.
#pragma once

#include <cstdint>

#include "gpu_kernels/base/pass_inputs.h"
#include "gpu_kernels/base/stream.h"
#include "gpu_kernels/tokens/kv_planes.h"
#include "runtime/core/rope_pairing.h"

namespace thermocline {

// cos, sin: (positions, rot_dim / 2) f32 in memory the GPU sees, a row per position of the context.
struct GpuRope {
  RopePairing pairing = RopePairing::kAdjacent;
  // Leading elements of a head that turn; even, at most head_dim. 0: none, and no tables.
  int64_t rot_dim = 0;
  const float* cos = nullptr;
  const float* sin = nullptr;
};

// For every row of the pass: turns the heads of q: (n_rows, n_heads, head_dim) f32 in place by the
// angles of its position, and stores the turned heads of k and those of v: (n_rows, n_kv_heads,
// head_dim) f32 in the cache at its slot. k and v themselves stay as they are. Stored as f16
// rounded to nearest even, or as q8_0 with the bytes that the CPU's f32_to_q8_0 makes (blocks with
// NaN or infinity decode to NaN). Without k and v (null), in a layer that reads another's, only q
// is turned. Asynchronous on `stream`; throws Error on launch. REQUIRES: slots lie below
// kv.n_slots, positions in the rope's tables.
void GpuRopeAppend(Stream& stream, const GpuRope& rope, const GpuKvLayer& kv, const GpuPass& pass,
                   int64_t n_heads, float* q, const float* k, const float* v);

}  // namespace thermocline
