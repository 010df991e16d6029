// Causal attention over the KV cache, with several query heads to a KV head (arXiv:2305.13245).
//
// Both forms: q, out: (n_tokens, n_heads, head_dim) f32, 16-byte aligned; head h reads KV head
// h / (n_heads / n_kv_heads). Token t sees positions 0 to first_position + t, which must have been
// appended; scores are scaled by 1 / sqrt(head_dim). Products and sums are f32. Asynchronous on
// `stream`; throws Error on launch. REQUIRES: n_kv_heads divides n_heads.
#pragma once

#include <cstdint>

#include "gpu_kernels/base/pass_inputs.h"
#include "gpu_kernels/base/stream.h"
#include "gpu_kernels/tokens/kv_planes.h"

namespace thermocline {

// Decode: few tokens, much context. The positions are cut into chunks of kKvChunkTokens, a block
// each, and a second kernel puts the chunks together in their order (split KV, as in
// Flash-Decoding). What a token's result is depends on nothing but its position: not on how many
// tokens go with it, nor on max_positions.
//
// max_positions: at least first_position + n_tokens; what the grid is made for, so that a captured
// graph serves while the context stays below it (blocks behind its end leave at once).
// scratch: GpuAttendScratchBytes(...) bytes of GPU memory, 16-byte aligned.
//
// Bytes per layer at n positions: the K and V rows of n positions, once for every 8 query heads and
// tokens to a KV head.
void GpuAttendFew(Stream& stream, const GpuKvLayer& kv, const GpuPassTokens& tokens,
                  int64_t n_heads, int64_t max_positions, const float* q, void* scratch,
                  float* out);
uint64_t GpuAttendScratchBytes(int64_t max_tokens, int64_t n_heads, int64_t head_dim,
                               int64_t max_positions);

// Prefill: many tokens. Blocks of 32 queries go through their positions in tiles in shared memory,
// with a running maximum and sum (FlashAttention, arXiv:2205.14135).
void GpuAttendMany(Stream& stream, const GpuKvLayer& kv, const GpuPassTokens& tokens,
                   int64_t n_heads, const float* q, float* out);

}  // namespace thermocline
