// Attention on the CPU. A query's positions are cut into chunks of a fixed length. Each chunk's
// scores become e^(s - m) with the chunk's own m, and are kept as their sum and the sum of the
// values so weighted; at the end the chunks are put together in their order. The cut depends on the
// context size alone, so the result is the same whether one lane went through all chunks or several
// shared them.
//
// At n positions a token reads, per layer, 2 n n_kv_heads rows of head_dim. Each is read once, also
// where several query heads share a KV head. Rows of sequences that share their first pages go
// through these chunk by chunk together, so that what they share is read once for all of them
// (ChunkAttention, arXiv:2402.15220, whose first phase this is); then each goes through its own.
#include "runtime/device/cpu/cpu_attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"
#include "runtime/device/cpu/attention_bias.h"

namespace thermocline {

namespace {

int64_t MaxChunks(const CpuDeviceLimits& limits) {
  return CeilDiv(limits.max_seq_len, limits.KvChunk());
}
// Returns the bytes that one query head leaves of all its chunks.
uint64_t HeadChunksBytes(const CpuDeviceLimits& limits) {
  return static_cast<uint64_t>(MaxChunks(limits) * (limits.head_dim + kChunkExtra)) * sizeof(float);
}
uint64_t SharedChunksBytes(const CpuDeviceLimits& limits) {
  return HeadChunksBytes(limits) * static_cast<uint64_t>(limits.n_heads * limits.ChunkedRows());
}
uint64_t ScoresBytes(const CpuDeviceLimits& limits) {
  return static_cast<uint64_t>(limits.KvChunk()) * sizeof(float);
}
uint64_t HeadBytes(const KernelTable& kernels, const CpuDeviceLimits& limits) {
  return static_cast<uint64_t>(
      kernels.prepared_bytes(VectorForm::kQ8, AlignUp(limits.head_dim, kQuantBlock)));
}
uint64_t PanelBytes(const KernelTable& kernels, const CpuDeviceLimits& limits) {
  if (!limits.WantsPanelAttention(kernels)) return 0;
  return PanelAttention::Bytes(kernels, limits.head_dim, limits.n_heads / limits.n_kv_heads,
                               limits.KvChunk());
}

}  // namespace

CpuAttention::CpuAttention(const KernelTable& kernels, const CpuDeviceLimits& limits)
    : kernels_(kernels),
      chunks_(SharedChunksBytes(limits), "attention outputs"),
      kv_chunk_(limits.KvChunk()) {
  for (int i = 0; i < limits.n_lanes; ++i) {
    LaneScratch& lane = lanes_.emplace_back();
    lane.scores = AlignedBuffer(ScoresBytes(limits), "attention scores");
    lane.chunks = AlignedBuffer(HeadChunksBytes(limits), "attention outputs");
    lane.head = AlignedBuffer(HeadBytes(kernels, limits), "a query head");
    if (!limits.WantsPanelAttention(kernels)) continue;
    lane.panels = std::make_unique<PanelAttention>(
        kernels, limits.head_dim, limits.n_heads / limits.n_kv_heads, limits.KvChunk());
  }
}

uint64_t CpuAttention::Bytes(const KernelTable& kernels, const CpuDeviceLimits& limits) {
  const uint64_t per_lane = ScoresBytes(limits) + HeadChunksBytes(limits) +
                            HeadBytes(kernels, limits) + PanelBytes(kernels, limits);
  return per_lane * static_cast<uint64_t>(limits.n_lanes) + SharedChunksBytes(limits);
}

// One query head's view of the cache, and where a lane works.
struct CpuAttention::HeadQuery {
  const HostKvCache& cache;
  const AttentionOp& op;
  const BatchRow& row;
  int64_t head;
  const void* q;  // prepared for the cache's type
  float* scores;  // the lane's (kv_chunk) scratch

  int64_t kv_head() const { return head / (op.n_heads / op.n_kv_heads); }
};

void CpuAttention::RopeAppend(const Lane& lane, const RopeOp& rope, const HostKvCache& cache,
                              const AttentionOp& op, float* q, float* k, const float* v) {
  const int64_t n_frequencies = rope.rot_dim / 2;
  const int64_t d = op.head_dim;
  const auto turn = [&](float* head, int64_t token) {
    if (n_frequencies == 0) return;
    kernels_.rope(rope.pairing, head, rope.rot_dim, rope.cos + token * n_frequencies,
                  rope.sin + token * n_frequencies);
  };
  const auto store = [&](const float* head, std::byte* out) {
    if (cache.dtype() == DType::kF32) {
      std::memcpy(out, head, static_cast<size_t>(d) * sizeof(float));
    } else if (cache.dtype() == DType::kF16) {
      kernels_.f32_to_f16(head, d, reinterpret_cast<uint16_t*>(out));
    } else {
      kernels_.f32_to_q8_0(head, d, out);
    }
  };
  const auto [q_begin, q_end] = lane.Split(op.n() * op.n_heads);
  for (int64_t i = q_begin; i < q_end; ++i) turn(q + i * d, i / op.n_heads);
  const auto [k_begin, k_end] = lane.Split(k == nullptr ? 0 : op.n() * op.n_kv_heads);
  for (int64_t i = k_begin; i < k_end; ++i) {
    const int64_t token = i / op.n_kv_heads;
    turn(k + i * d, token);
    const BatchRow& row = op.batch->row(token);
    const int64_t place = op.PlaceOf(row, row.position);
    const KvRun run = cache.RunAt(op.layer, i % op.n_kv_heads, op.PagesOf(row), place, 1);
    store(k + i * d, run.k);
    store(v + i * d, run.v);
  }
  lane.Sync();
}

namespace {

bool IsPanelSegment(const BatchSegment& segment) { return segment.n_rows >= kPanelAttentionTokens; }

}  // namespace

// The rows of a batch that attend query head by query head: all, or those of its short segments.
struct CpuAttention::HeadRows {
  const Batch& batch;
  std::span<const BatchSegment> segments;
  bool all;
  int64_t n = 0;
  int64_t max_length = 0;  // positions that a row may see at most

  HeadRows(const AttentionOp& op, bool panels)
      : batch(*op.batch),
        segments(op.segments),
        all(!panels || std::ranges::none_of(op.segments, IsPanelSegment)) {
    for (const BatchSegment& segment : segments) {
      if (!all && IsPanelSegment(segment)) continue;
      n += segment.n_rows;
      const BatchRow& last = batch.row(segment.first_row + segment.n_rows - 1);
      max_length = std::max(max_length, op.EndSeen(last));
    }
  }
  // Returns the i-th of these rows as a row of the batch.
  int64_t At(int64_t i) const {
    if (all) return i;
    for (const BatchSegment& segment : segments) {
      if (IsPanelSegment(segment)) continue;
      if (i < segment.n_rows) return segment.first_row + i;
      i -= segment.n_rows;
    }
    CHECK(false);
    return 0;
  }
};

// Long segments attend as panels. With few other rows over a long context, or rows that share
// pages, lanes share out heads and chunks, and meet before the chunks are put together. Otherwise
// there are heads enough, and a lane does all chunks of one.
void CpuAttention::Attend(const Lane& lane, const HostKvCache& cache, const AttentionOp& op,
                          const float* q, float* out) {
  const HeadRows rows(op, kernels_.gemm != nullptr);
  if (rows.n < op.n()) {
    AttendPanels(lane, cache, op, q, out);
    if (rows.n > 0) lane.Sync();
  }
  std::vector<int64_t>& order = scratch(lane).order;
  const bool several_chunks = rows.n > 0 && rows.max_length > kv_chunk_;
  if (several_chunks && (OrderByPages(op, rows, &order) || rows.n < kGemmMinTokens)) {
    AttendChunks(lane, cache, op, order, q, out);
  } else if (rows.n > 0) {
    AttendHeads(lane, cache, op, rows, q, out);
  }
  lane.Sync();
}

// Lanes share out tiles of a KV head's queries, heads outermost, so that a lane's tiles read the
// same positions.
void CpuAttention::AttendPanels(const Lane& lane, const HostKvCache& cache, const AttentionOp& op,
                                const float* q, float* out) {
  const int64_t tile = PanelAttention::TileTokens(op.n_heads / op.n_kv_heads);
  int64_t n_tiles = 0;
  for (const BatchSegment& segment : op.segments) {
    if (IsPanelSegment(segment)) n_tiles += CeilDiv(segment.n_rows, tile);
  }
  PanelAttention& attention = *scratch(lane).panels;
  const auto run = [&](int64_t kv_head, int64_t index) {
    for (const BatchSegment& segment : op.segments) {
      if (!IsPanelSegment(segment)) continue;
      const int64_t tiles = CeilDiv(segment.n_rows, tile);
      if (index >= tiles) {
        index -= tiles;
        continue;
      }
      const int64_t first = segment.first_row + index * tile;
      const int64_t last = std::min(first + tile, segment.first_row + segment.n_rows);
      attention.Run(cache, op, kv_head, first, last, q, out);
      return;
    }
  };
  lane.Share(op.n_kv_heads * n_tiles, 1, 1, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) run(item / n_tiles, item % n_tiles);
  });
}

const void* CpuAttention::PrepareHead(const Lane& lane, DType cache_type, const float* q,
                                      int64_t d) {
  const VectorForm form = kernels_.vector_form(cache_type);
  if (form == VectorForm::kF32) return q;
  std::byte* out = scratch(lane).head.bytes();
  kernels_.prepare(form, q, d, out);
  return out;
}

// Lanes share out KV heads of rows, heads outermost, so that a lane's rows of one sequence read the
// same positions.
void CpuAttention::AttendHeads(const Lane& lane, const HostKvCache& cache, const AttentionOp& op,
                               const HeadRows& rows, const float* q, float* out) {
  const int64_t d = op.head_dim;
  const int64_t group = op.n_heads / op.n_kv_heads;
  LaneScratch& mine = scratch(lane);
  lane.Share(op.n_kv_heads * rows.n, 1, 1, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t t = rows.At(item % rows.n);
      const BatchRow& row = op.batch->row(t);
      for (int64_t g = 0; g < group; ++g) {
        const int64_t head = item / rows.n * group + g;
        const float* token_q = q + (t * op.n_heads + head) * d;
        const HeadQuery query{cache,
                              op,
                              row,
                              head,
                              PrepareHead(lane, cache.dtype(), token_q, d),
                              mine.scores.as<float>()};
        const int64_t n_kv = op.EndSeen(row);
        const int64_t first = op.FirstSeen(row.position) / kv_chunk_;
        const int64_t n_chunks = CeilDiv(n_kv, kv_chunk_) - first;
        for (int64_t c = 0; c < n_chunks; ++c) {
          AttendChunk(query, (first + c) * kv_chunk_, std::min((first + c + 1) * kv_chunk_, n_kv),
                      mine.chunks.as<float>() + c * (d + kChunkExtra));
        }
        MergeChunks(mine.chunks.as<float>(), n_chunks, d, out + (t * op.n_heads + head) * d);
      }
    }
  });
}

// Puts the rows in an order in which those whose pages begin alike follow each other. Returns
// whether two of different sequences have all pages of a chunk in common.
bool CpuAttention::OrderByPages(const AttentionOp& op, const HeadRows& rows,
                                std::vector<int64_t>* order) const {
  order->clear();
  for (int64_t i = 0; i < rows.n; ++i) order->push_back(rows.At(i));
  if (rows.n < 2) return false;
  const auto table_of = [&](int64_t t) { return op.PagesOf(op.batch->row(t)); };
  std::ranges::stable_sort(*order, [&](int64_t a, int64_t b) {
    const KvPageTable x = table_of(a);
    const KvPageTable y = table_of(b);
    if (x.first_page != y.first_page) return x.first_page < y.first_page;
    return std::ranges::lexicographical_compare(x.pages, y.pages);
  });
  for (size_t i = 1; i < order->size(); ++i) {
    const int64_t a = (*order)[i - 1];
    const int64_t b = (*order)[i];
    if (op.batch->row(a).sequence == op.batch->row(b).sequence) continue;
    const KvPageTable x = table_of(a);
    const KvPageTable y = table_of(b);
    const auto parts = std::ranges::mismatch(x.pages, y.pages);
    const int64_t n_shared = parts.in1 - x.pages.begin();
    if (x.first_page == y.first_page && n_shared * kKvPageTokens >= kv_chunk_) return true;
  }
  return false;
}

size_t CpuAttention::TileRows(const AttentionOp& op, int64_t n_chunks) const {
  const auto row_bytes =
      static_cast<uint64_t>(op.n_heads * n_chunks * (op.head_dim + kChunkExtra)) * sizeof(float);
  return chunks_.size() / row_bytes;
}

KvReads CpuAttention::ReadsOf(const AttentionOp& op) const {
  const HeadRows rows(op, kernels_.gemm != nullptr);
  KvReads reads;
  if (rows.n < op.n()) reads += PanelReads(op);
  std::vector<int64_t> order;
  const bool several_chunks = rows.n > 0 && rows.max_length > kv_chunk_;
  if (several_chunks && (OrderByPages(op, rows, &order) || rows.n < kGemmMinTokens)) {
    const int64_t n_chunks = CeilDiv(rows.max_length, kv_chunk_);
    const size_t most = TileRows(op, n_chunks);
    std::span<const int64_t> left = order;
    while (!left.empty()) {
      const size_t n = std::min(most, left.size());
      reads += TileReads(op, left.first(n), n_chunks);
      left = left.subspan(n);
    }
    return reads;
  }
  for (int64_t i = 0; i < rows.n; ++i) {
    const BatchRow& row = op.batch->row(rows.At(i));
    const int64_t n = op.EndSeen(row) - op.FirstSeen(row.position);
    reads += {n, n};
  }
  return reads;
}

// Every tile of a segment goes through all positions that it sees.
KvReads CpuAttention::PanelReads(const AttentionOp& op) const {
  const int64_t tile = PanelAttention::TileTokens(op.n_heads / op.n_kv_heads);
  KvReads reads;
  for (const BatchSegment& segment : op.segments) {
    if (!IsPanelSegment(segment)) continue;
    for (int64_t first = 0; first < segment.n_rows; first += tile) {
      const int64_t last = std::min(first + tile, segment.n_rows) - 1;
      const int64_t n = op.EndSeen(op.batch->row(segment.first_row + last)) -
                        op.FirstSeen(segment.first_position + first);
      reads += {n, n};
    }
  }
  return reads;
}

// A row whose pages of a chunk are those of the row before it finds there what that has read. The
// few positions of a branch count as if they lay in their order.
KvReads CpuAttention::TileReads(const AttentionOp& op, std::span<const int64_t> tile,
                                int64_t n_chunks) const {
  KvReads reads;
  for (int64_t c = 0; c < n_chunks; ++c) {
    std::vector<int32_t> before;  // the pages that the row before has read of
    int64_t end_before = 0;
    for (const int64_t t : tile) {
      const BatchRow& row = op.batch->row(t);
      const int64_t begin = std::max(c * kv_chunk_, op.FirstSeen(row.position));
      const int64_t end = std::min((c + 1) * kv_chunk_, op.EndSeen(row));
      if (end <= begin) continue;
      const KvPageTable table = op.PagesOf(row);
      std::vector<int32_t> pages;
      for (int64_t at = begin; at < end; at = (at / kKvPageTokens + 1) * kKvPageTokens) {
        pages.push_back(table.PageOf(at));
      }
      const size_t n_common = std::min(pages.size(), before.size());
      const bool same = n_common > 0 &&
                        std::equal(pages.begin(), pages.begin() + static_cast<ptrdiff_t>(n_common),
                                   before.begin());
      reads += {same ? std::max<int64_t>(0, end - end_before) : end - begin, end - begin};
      end_before = same ? std::max(end, end_before) : end;
      if (!same || pages.size() > before.size()) before = std::move(pages);
    }
  }
  return reads;
}

void CpuAttention::AttendChunks(const Lane& lane, const HostKvCache& cache, const AttentionOp& op,
                                std::span<const int64_t> order, const float* q, float* out) {
  int64_t max_length = 0;
  for (const int64_t t : order) max_length = std::max(max_length, op.EndSeen(op.batch->row(t)));
  const int64_t n_chunks = CeilDiv(max_length, kv_chunk_);
  const size_t most = TileRows(op, n_chunks);
  while (!order.empty()) {
    const size_t n = std::min(most, order.size());
    AttendTile(lane, cache, op, order.first(n), n_chunks, q, out);
    order = order.subspan(n);
    if (!order.empty()) lane.Sync();  // the chunks are used again
  }
}

// Some rows, as many as chunks_ has room for. Lanes share out KV heads and chunks, and go through a
// chunk for all of the rows.
void CpuAttention::AttendTile(const Lane& lane, const HostKvCache& cache, const AttentionOp& op,
                              std::span<const int64_t> tile, int64_t n_chunks, const float* q,
                              float* out) {
  const int64_t d = op.head_dim;
  const int64_t group = op.n_heads / op.n_kv_heads;
  const int64_t stride = d + kChunkExtra;
  const auto n = static_cast<int64_t>(tile.size());
  // Returns chunk c of query head `head` of the r-th of the rows.
  const auto chunk_at = [&](int64_t r, int64_t head, int64_t c) {
    return chunks_.as<float>() + ((r * op.n_heads + head) * n_chunks + c) * stride;
  };
  // Chunks are innermost, so that a lane's items lie next to each other in memory.
  const int64_t n_items = op.n_kv_heads * n_chunks;
  lane.Share(n_items, 1, 1, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t kv_head = item / n_chunks;
      const int64_t c = item % n_chunks;
      for (int64_t i = 0; i < n * group; ++i) {
        const int64_t t = tile[static_cast<size_t>(i / group)];
        const BatchRow& row = op.batch->row(t);
        const int64_t head = kv_head * group + i % group;
        const int64_t last = std::min((c + 1) * kv_chunk_, op.EndSeen(row));
        if (last <= std::max(c * kv_chunk_, op.FirstSeen(row.position))) continue;
        const float* token_q = q + (t * op.n_heads + head) * d;
        const HeadQuery query{cache,
                              op,
                              row,
                              head,
                              PrepareHead(lane, cache.dtype(), token_q, d),
                              scratch(lane).scores.as<float>()};
        AttendChunk(query, c * kv_chunk_, last, chunk_at(i / group, head, c));
      }
    }
  });
  lane.Sync();
  const auto [begin, end] = lane.Split(n * op.n_heads);
  for (int64_t i = begin; i < end; ++i) {
    const int64_t head = i % op.n_heads;
    const int64_t t = tile[static_cast<size_t>(i / op.n_heads)];
    const BatchRow& row = op.batch->row(t);
    const int64_t first = op.FirstSeen(row.position) / kv_chunk_;
    MergeChunks(chunk_at(i / op.n_heads, head, first), CeilDiv(op.EndSeen(row), kv_chunk_) - first,
                d, out + (t * op.n_heads + head) * d);
  }
}

// Fills in a chunk: (head_dim) sum of e^(s - m) v, then m, then the sum of e^(s - m). What lies
// before the first position that is seen is left out; REQUIRES: something is seen. Of a branch the
// positions are gone through in their order, wherever they lie: its scores and sums are made of the
// same numbers in the same order as if they lay there.
void CpuAttention::AttendChunk(const HeadQuery& query, int64_t chunk_begin, int64_t end,
                               float* chunk) const {
  const AttentionOp& op = query.op;
  const KvPageTable pages = op.PagesOf(query.row);
  const int64_t begin = std::max(chunk_begin, op.FirstSeen(query.row.position));
  const DType dtype = query.cache.dtype();
  const int64_t d = op.head_dim;
  const int64_t row_bytes = RowBytes(dtype, d);
  const auto for_runs = [&](const auto& body) {
    for (int64_t at = begin; at < end;) {
      const int64_t n = op.EndTogether(query.row, at, end) - at;
      const KvRun run =
          query.cache.RunAt(op.layer, query.kv_head(), pages, op.PlaceOf(query.row, at), n);
      body(run, run.n_tokens, query.scores + (at - begin));
      at += run.n_tokens;
    }
  };
  for_runs([&](const KvRun& run, int64_t n, float* scores) {
    kernels_.matvec(dtype, run.k, row_bytes, d, query.q, nullptr, 0, n, scores);
  });
  const bool scaled = op.ScalesFirst();
  if (scaled) kernels_.scale(query.scores, end - begin, op.scale, op.soft_cap);
  if (op.bias.by_distance != nullptr) {
    AddRelativeBias(kernels_, op.bias, query.head, query.row.position, begin, end, query.scores);
  }
  chunk[d + 1] =
      kernels_.exp_scores(query.scores, end - begin, scaled ? 1.0F : op.scale, chunk + d);
  std::fill_n(chunk, d, 0.0F);
  for_runs([&](const KvRun& run, int64_t n, const float* scores) {
    kernels_.accumulate_rows(dtype, run.v, row_bytes, scores, nullptr, n, 0, d, chunk);
  });
}

// Puts n_chunks chunks together, as AttendChunk leaves them. Their m and sums are used up.
void CpuAttention::MergeChunks(float* chunks, int64_t n_chunks, int64_t d, float* out) const {
  const int64_t stride = d + kChunkExtra;
  float m = chunks[d];
  for (int64_t c = 1; c < n_chunks; ++c) m = std::max(m, chunks[c * stride + d]);
  float sum = 0.0F;
  for (int64_t c = 0; c < n_chunks; ++c) {
    float* chunk = chunks + c * stride;
    chunk[d] = std::exp(chunk[d] - m);
    sum += chunk[d] * chunk[d + 1];
  }
  std::fill_n(out, d, 0.0F);
  for (int64_t c = 0; c < n_chunks; ++c) {
    const float weight = chunks[c * stride + d] / sum;
    kernels_.accumulate_rows(DType::kF32, reinterpret_cast<const std::byte*>(chunks + c * stride),
                             0, &weight, nullptr, 1, 0, d, out);
  }
}

}  // namespace thermocline
