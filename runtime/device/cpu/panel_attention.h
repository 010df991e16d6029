// Attention of a batch of tokens on the CPU, as products of panels. The query heads of some tokens
// that share a KV head go over its positions together, chunk by chunk. Keys and values of a chunk
// are packed once for all of them and multiplied as prefill's weights are (cpu_kernels/gemm.h).
//
// A query's result depends on its own position and on the length of the chunks alone: not on the
// tokens beside it, nor on how tiles fall to lanes. Chunks are put together as they come, with the
// largest score so far (Milakov and Gimelshein, arXiv:1805.02867).
#pragma once

#include <cstdint>

#include "cpu_kernels/kernels.h"
#include "runtime/core/aligned_buffer.h"
#include "runtime/device/device.h"
#include "runtime/device/kv_cache.h"

namespace thermocline {

class PanelAttention {
 public:
  // Query heads that are taken together, if a KV head's group is no larger.
  static constexpr int64_t kTileQueries = 64;

  // Makes one lane's scratch, for up to `group` query heads per KV head. REQUIRES: kernels.gemm.
  PanelAttention(const KernelTable& kernels, int64_t head_dim, int64_t group, int64_t kv_chunk);
  static uint64_t Bytes(const KernelTable& kernels, int64_t head_dim, int64_t group,
                        int64_t kv_chunk);

  // Returns how many tokens have the queries of a tile.
  static int64_t TileTokens(int64_t group) {
    return group < kTileQueries ? kTileQueries / group : 1;
  }

  // Runs the query heads of `kv_head`, for rows [token_begin, token_end) of one segment, at most
  // TileTokens of them. q, out: (pass.n(), n_heads, head_dim) f32.
  void Run(const HostKvCache& cache, const AttentionOp& op, int64_t kv_head, int64_t token_begin,
           int64_t token_end, const float* q, float* out);

 private:
  struct Tile;
  struct Sizes;

  void Scores(const Tile& tile, int64_t begin, int64_t end);
  void WeighValues(const Tile& tile, int64_t begin, int64_t end);
  void Merge(const Tile& tile, int64_t begin, int64_t end);
  // Returns n rows of the cache from a position on, end to end: where they are, or copied together.
  // Rows that a window has let go of are zero. No query sees them, so they weigh nothing.
  const std::byte* Rows(const Tile& tile, bool values, int64_t begin, int64_t n);

  const KernelTable& kernels_;
  int64_t kv_chunk_;
  AlignedBuffer queries_;   // (queries, head_dim) f32
  AlignedBuffer prepared_;  // prepared queries, then the chunk's prepared weights
  AlignedBuffer weights_;   // (queries, positions of the chunk) f32: scores, then e^(score - m)
  AlignedBuffer rows_;      // (kv_chunk) rows of the cache, where it keeps them apart
  AlignedBuffer panels_;    // panels of the chunk's keys, then of its values
  AlignedBuffer products_;  // (queries, head_dim) f32 of the chunk
  AlignedBuffer sums_;      // (queries, head_dim) f32: sum of e^(s - m) v so far
  AlignedBuffer totals_;    // (queries, 4) f32: m and sum of e^(s - m) so far, and of the chunk
};

}  // namespace thermocline
