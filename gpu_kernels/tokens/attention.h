// Causal attention over the KV cache, with several query heads to a KV head (arXiv:2305.13245).
//
// There are two forms. In each, q, out: (n_rows, n_heads, head_dim) f32, 16-byte aligned; head h
// reads KV head h / (n_heads / n_kv_heads). A row sees the positions of its sequence up to its own,
// or of these the last `window`; they must have been appended. Where they lie its pages say, and
// its branch (GpuPassSegment::branch_begin). Products and sums are f32. What lies before the
// windows of the rows that a block has is not read, but for the rest of a page that they begin in:
// it costs nothing but the blocks that leave at once. Asynchronous on `stream`; throws Error on
// launch. REQUIRES: n_kv_heads divides n_heads.
#pragma once

#include <cstdint>

#include "gpu_kernels/base/pass_inputs.h"
#include "gpu_kernels/base/stream.h"
#include "gpu_kernels/tokens/kv_planes.h"

namespace thermocline {

struct GpuAttention {
  int64_t n_heads = 0;
  float scale = 1;     // of the scores q . k
  float soft_cap = 0;  // c: scores become c tanh(score / c) (arXiv:2408.00118); 0: they stay
  int64_t window = 0;  // positions that a row sees, its own included; 0: all up to its own
  // Added to scores, scaled and capped, by how far behind a row a key stands: (n_heads, 2 *
  // max_distance + 1) f32 on the GPU, farther ones as the farthest; or null.
  const float* bias = nullptr;
  int64_t max_distance = 0;
  // Rows see all positions of the text that an encoder read for their sequence, wherever they stand
  // themselves. REQUIRES: no window.
  bool sees_encoder = false;
};

// Positions that a block of GpuAttendFew goes through.
inline constexpr int kKvChunkTokens = 128;

// Decode: few rows, much context. The positions are cut into chunks of kKvChunkTokens, a block
// each, and a second kernel puts the chunks together in their order (split KV, as in
// Flash-Decoding). A row's result depends on nothing but its sequence and its position: not on the
// rows that go with it, on the pages that its sequence lies in, nor on max_positions. Chunks that
// segments share (GpuPassSegment::n_shared_pages) are read from memory once for all of them, unless
// rows see a window.
//
// max_positions: at least the last position and one; what the grid is made for, so that a captured
// graph serves while the contexts stay below it (blocks behind a sequence's end leave at once). The
// graph serves passes of as many rows and segments, with no segment longer than max_segment_rows.
// scratch: GpuAttendScratchBytes(...) bytes of GPU memory, 16-byte aligned.
//
// Bytes per layer and sequence at n positions that are seen: the K and V rows of n positions, and
// with a window of up to a page more, once for every 8 query heads and rows to a KV head; of a
// chunk that several segments share the first time from memory, and then from a cache (64 KiB with
// a head_dim of 128).
void GpuAttendFew(Stream& stream, const GpuKvLayer& kv, const GpuPass& pass,
                  const GpuAttention& attention, int64_t max_positions, const float* q,
                  void* scratch, float* out);
uint64_t GpuAttendScratchBytes(int64_t max_rows, int64_t n_heads, int64_t head_dim,
                               int64_t max_positions);

// Prefill: many rows. Blocks of kAttendManyQueries queries of a segment go through their positions
// in tiles in shared memory, with a running maximum and sum (FlashAttention, arXiv:2205.14135).
inline constexpr int kAttendManyQueries = 32;
void GpuAttendMany(Stream& stream, const GpuKvLayer& kv, const GpuPass& pass,
                   const GpuAttention& attention, const float* q, float* out);

}  // namespace thermocline
