// Attention on the CPU, and the append to the KV cache.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "cpu_kernels/kernels.h"
#include "runtime/core/aligned_buffer.h"
#include "runtime/device/cpu/cpu_limits.h"
#include "runtime/device/cpu/panel_attention.h"
#include "runtime/device/kv_cache.h"

namespace thermocline {

class CpuAttention {
 public:
  CpuAttention(const KernelTable& kernels, const CpuDeviceLimits& limits);
  static uint64_t Bytes(const KernelTable& kernels, const CpuDeviceLimits& limits);

  // Are what DeviceOps says of them.
  void RopeAppend(const Lane& lane, const RopeOp& rope, const HostKvCache& cache,
                  const AttentionOp& op, float* q, float* k, const float* v);
  void Attend(const Lane& lane, const HostKvCache& cache, const AttentionOp& op, const float* q,
              float* out);
  KvReads ReadsOf(const AttentionOp& op) const;

 private:
  struct LaneScratch {
    AlignedBuffer scores;  // (kv_chunk) f32
    AlignedBuffer chunks;  // (chunks of a context, head_dim + kChunkExtra) f32 of one query head
    AlignedBuffer head;    // one query head, prepared
    std::vector<int64_t> order;              // rows, in the order in which they attend
    std::unique_ptr<PanelAttention> panels;  // null where passes are too short for it
  };
  struct HeadQuery;
  struct HeadRows;

  LaneScratch& scratch(const Lane& lane) { return lanes_[static_cast<size_t>(lane.rank)]; }
  void AttendPanels(const Lane& lane, const HostKvCache& cache, const AttentionOp& op,
                    const float* q, float* out);
  void AttendHeads(const Lane& lane, const HostKvCache& cache, const AttentionOp& op,
                   const HeadRows& rows, const float* q, float* out);
  // Attends to `order`, rows that share pages behind each other, where it returns true.
  bool OrderByPages(const AttentionOp& op, const HeadRows& rows, std::vector<int64_t>* order) const;
  // Rows that AttendTile can take at a time.
  size_t TileRows(const AttentionOp& op, int64_t n_chunks) const;
  // What the panels, and AttendTile, read.
  KvReads PanelReads(const AttentionOp& op) const;
  KvReads TileReads(const AttentionOp& op, std::span<const int64_t> tile, int64_t n_chunks) const;
  void AttendChunks(const Lane& lane, const HostKvCache& cache, const AttentionOp& op,
                    std::span<const int64_t> order, const float* q, float* out);
  void AttendTile(const Lane& lane, const HostKvCache& cache, const AttentionOp& op,
                  std::span<const int64_t> tile, int64_t n_chunks, const float* q, float* out);
  const void* PrepareHead(const Lane& lane, DType cache_type, const float* q, int64_t d);
  void AttendChunk(const HeadQuery& query, int64_t chunk_begin, int64_t end, float* chunk) const;
  void MergeChunks(float* chunks, int64_t n_chunks, int64_t d, float* out) const;

  const KernelTable& kernels_;
  std::vector<LaneScratch> lanes_;
  // (ChunkedRows(), n_heads, chunks of the context, head_dim + kChunkExtra) f32, or more rows of
  // shorter texts
  AlignedBuffer chunks_;
  int64_t kv_chunk_;
};

}  // namespace thermocline
