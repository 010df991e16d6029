#include "runtime/device/gpu/gpu_kv_reads.h"

#include <algorithm>

#include "gpu_kernels/tokens/attention.h"
#include "runtime/core/checked_math.h"

namespace thermocline {
namespace {

int64_t EndOf(const AttentionOp& op, const BatchSegment& segment) {
  return op.EndSeen(op.batch->row(segment.first_row + segment.n_rows - 1));
}

// Every tile of queries goes through what its rows see.
int64_t TilesRead(const AttentionOp& op, const BatchSegment& segment, int64_t tile_queries) {
  const int64_t group = op.n_heads / op.n_kv_heads;
  const int64_t n_queries = segment.n_rows * group;
  int64_t positions = 0;
  for (int64_t first = 0; first < n_queries; first += tile_queries) {
    const int64_t last_row = (std::min(first + tile_queries, n_queries) - 1) / group;
    positions += op.EndSeen(op.batch->row(segment.first_row + last_row)) -
                 op.FirstSeen(segment.first_position + first / group);
  }
  return positions;
}

}  // namespace

KvReads GpuKvReads(const AttentionOp& op, bool many) {
  KvReads reads;
  if (many) {
    for (const BatchSegment& segment : op.segments) {
      const int64_t n = TilesRead(op, segment, kAttendManyQueries);
      reads += {n, n};
    }
    return reads;
  }
  // Tiles of a segment that go through a chunk at the same time find it in a cache.
  for (size_t i = 0; i < op.segments.size(); ++i) {
    const BatchSegment& segment = op.segments[i];
    const int64_t n = EndOf(op, segment) - op.FirstSeen(segment.first_position);
    int64_t shared = 0;
    for (size_t j = 0; j < i && op.window == 0 && !op.sees_encoder; ++j) {
      shared = std::max(shared, SharedPages(*op.batch, op.page_class, op.segments[j], segment));
    }
    const int64_t chunks = shared * kKvPageTokens / kKvChunkTokens;
    reads += {n - chunks * kKvChunkTokens, n};
  }
  return reads;
}

}  // namespace thermocline
