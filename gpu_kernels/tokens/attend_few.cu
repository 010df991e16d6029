#include "gpu_kernels/base/launch.h"
#include "gpu_kernels/base/warp_reduce.h"
#include "gpu_kernels/tokens/attention.h"
#include "gpu_kernels/tokens/kv_rows.h"
#include "gpu_kernels/tokens/soft_cap.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr int kChunk = kKvChunkTokens;
constexpr int kChunkPages = kChunk / kGpuKvPageTokens;
constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarpThreads;
constexpr int kChunkPerLane = kChunk / kWarpThreads;

// A block's rows are queries of one KV head: r is one of kQueries of the tokens of its segment, or
// of those of all segments that share the chunk. kLanes lanes work on one position, 8 elements of a
// row each, so the block has kThreads / kLanes positions in hand at a time.
struct Rows {
  const SharedSpan<int>& tokens;     // of the pass; -1: there is no such row
  const SharedSpan<int>& heads;      // of all
  const SharedSpan<int>& positions;  // in their sequences
  int n_heads;
  __device__ bool Has(int r) const { return tokens[r] >= 0; }
  // In (n_rows, n_heads).
  __device__ int64_t Index(int r) const { return int64_t{tokens[r]} * n_heads + heads[r]; }
};

// The segments that begin with the same chunk of positions, in the same pages: the first of them
// has its blocks attend for all (the first phase of ChunkAttention, arXiv:2402.15220).
struct Sharing {
  const GpuPass& pass;
  int chunk;
  bool shares;  // false: every segment for itself
  // Whether others follow the segment.
  __device__ bool Leads(int segment) const {
    return shares && chunk < pass.segments[segment].n_led_pages / kChunkPages;
  }
  // Returns the segment whose blocks go through the chunk for this one.
  __device__ int LeaderOf(int segment) const {
    while (shares && chunk < pass.segments[segment].n_shared_pages / kChunkPages) {
      segment = pass.segments[segment].shares_with;
    }
    return segment;
  }
  // Returns the next segment of those that `leader` goes through the chunk for, or n_segments.
  __device__ int Next(int leader, int segment) const {
    if (!Leads(leader)) return pass.n_segments;
    do {
      ++segment;
    } while (segment < pass.n_segments && LeaderOf(segment) != leader);
    return segment;
  }
};

// Fills in which rows a tile has: those from `first` on of the leader's segment and of the others.
// Returns how many there are in all, from the leader's first on.
template <int kQueries>
__device__ int ListRows(const Sharing& sharing, int leader, int group, int kv_head, int first,
                        const SharedSpan<int>& tokens, const SharedSpan<int>& heads,
                        const SharedSpan<int>& positions) {
  const GpuPass& pass = sharing.pass;
  const int r = static_cast<int>(threadIdx.x);
  int n = 0;
  int token = -1;
  int position = 0;
  for (int s = leader; s < pass.n_segments; s = sharing.Next(leader, s)) {
    const GpuPassSegment& segment = pass.segments[s];
    const int query = first + r - n;
    if (query >= 0 && query < segment.n_rows * group) {
      token = segment.first_row + query / group;
      position = segment.first_position + query / group;
    }
    n += segment.n_rows * group;
  }
  if (r < kQueries) {
    tokens[r] = token;
    // A query's place within its token is its place within the group.
    heads[r] = kv_head * group + (first + r) % group;
    positions[r] = position;
  }
  return n;
}

// Sum over the kLanes lanes of a position, in each of them.
template <int kLanes>
__device__ float SumOfLanes(float value) {
  for (int distance = kLanes / 2; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(kFullWarpMask, value, distance);
  }
  return value;
}

// Where the positions of a chunk lie: the first slot of each of its pages, and a branch's.
struct ChunkSlots {
  const SharedSpan<int>& firsts;
  BranchSlots branch;
  __device__ int Of(int p) const {
    return branch.Has(p) ? branch.Of(p) : firsts[p / kGpuKvPageTokens] + p % kGpuKvPageTokens;
  }
};

// Positions of a chunk that are read: [first, end). It begins with the page of the first position
// that a row of the block sees, as those before may have been given back.
struct ReadPart {
  int first;
  int end;
};

// scores[r * kChunk + p] = query r . key p, from the first position that is read on; 0 behind the
// last.
template <int kLanes, int kQueries, typename Keys>
__device__ void ScoreChunk(const Rows& rows, const Keys& keys, const ChunkSlots& slots,
                           const ReadPart& part, const float* q, float scale,
                           const SharedSpan<float>& scores) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int at = lane * kLaneElems;
  const bool inside = at < keys.head_dim;
  Eight query[kQueries] = {};
#pragma unroll
  for (int r = 0; r < kQueries; ++r) {
    if (!inside || !rows.Has(r)) continue;
    const float* const from = q + rows.Index(r) * keys.head_dim + at;
#pragma unroll
    for (int i = 0; i < kLaneElems; ++i) query[r].x[i] = from[i] * scale;
  }
  constexpr int kAtOnce = kThreads / kLanes;
#pragma unroll 4
  for (int p = part.first + static_cast<int>(threadIdx.x) / kLanes; p < kChunk; p += kAtOnce) {
    Eight key = {};
    if (inside && p < part.end) key = keys.Load(slots.Of(p), at);
#pragma unroll
    for (int r = 0; r < kQueries; ++r) {
      float dot = 0;
#pragma unroll
      for (int i = 0; i < kLaneElems; ++i) dot = fmaf(query[r].x[i], key.x[i], dot);
      dot = SumOfLanes<kLanes>(dot);
      if (lane == 0) scores[r * kChunk + p] = dot;
    }
  }
}

// What is added to scores by distance (GpuAttention::bias).
struct Bias {
  const float* by_distance;
  int max_distance;
  // Returns that of a key so many positions behind the query; before it they are negative.
  __device__ float Of(int head, int distance) const {
    if (by_distance == nullptr) return 0.0f;
    const int near = max(-max_distance, min(distance, max_distance));
    return by_distance[head * (2 * max_distance + 1) + max_distance + near];
  }
};

struct Sight {
  int begin;   // the chunk's first position
  int window;  // WindowOrAll
  float soft_cap;
  bool all;  // rows see every position, not only those up to their own
  Bias bias;
};

// A warp per row: its scores s, capped, become e^(s - m) with the chunk's own m, or 0 where the row
// does not see the position; norms[row, chunk] = (m, their sum).
template <int kQueries>
__device__ void WeighChunk(const Rows& rows, const Sight& sight, int n_positions, int n_chunks,
                           float2* norms, const SharedSpan<float>& scores) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  for (int r = static_cast<int>(threadIdx.x) / kWarpThreads; r < kQueries; r += kWarps) {
    const int own = rows.positions[r] - sight.begin;
    const int last = sight.all ? n_positions : min(own + 1, n_positions);
    const int n_seen = rows.Has(r) ? last : 0;
    const int first_seen = max(own + 1 - sight.window, 0);
    float score[kChunkPerLane];
    float m = -INFINITY;
#pragma unroll
    for (int i = 0; i < kChunkPerLane; ++i) {
      const int p = i * kWarpThreads + lane;
      const bool seen = p >= first_seen && p < n_seen;
      score[i] = -INFINITY;
      if (seen) {
        score[i] = SoftCapped(scores[r * kChunk + p], sight.soft_cap) +
                   sight.bias.Of(rows.heads[r], p - own);
      }
      m = fmaxf(m, score[i]);
    }
    m = WarpMax(m);
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kChunkPerLane; ++i) {
      const int p = i * kWarpThreads + lane;
      const bool seen = p >= first_seen && p < n_seen;
      const float weight = seen ? expf(score[i] - m) : 0.0f;
      scores[r * kChunk + p] = weight;
      sum += weight;
    }
    sum = WarpSum(sum);
    if (lane == 0 && first_seen < n_seen) {
      norms[rows.Index(r) * n_chunks + blockIdx.x] = make_float2(m, sum);
    }
  }
}

// sums[row, chunk, :] = sum over positions p of weights[row, p] * value p. Each lane's part, then
// those of the warp, then the warps one after the other.
template <int kLanes, int kQueries, typename Values>
__device__ void SumValues(const Rows& rows, const Values& values, const ChunkSlots& slots,
                          const ReadPart& part, int n_chunks, const SharedSpan<float>& weights,
                          const SharedSpan<float4>& partial, float* sums) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int at = lane * kLaneElems;
  const bool inside = at < values.head_dim;
  Eight sum[kQueries] = {};
  constexpr int kAtOnce = kThreads / kLanes;
#pragma unroll 4
  for (int p = part.first + static_cast<int>(threadIdx.x) / kLanes; p < part.end; p += kAtOnce) {
    Eight value = {};
    if (inside) value = values.Load(slots.Of(p), at);
#pragma unroll
    for (int r = 0; r < kQueries; ++r) {
      const float weight = weights[r * kChunk + p];
#pragma unroll
      for (int i = 0; i < kLaneElems; ++i) sum[r].x[i] = fmaf(weight, value.x[i], sum[r].x[i]);
    }
  }
#pragma unroll
  for (int r = 0; r < kQueries; ++r) {
#pragma unroll
    for (int i = 0; i < kLaneElems; ++i) {
      for (int distance = kLanes; distance < kWarpThreads; distance *= 2) {
        sum[r].x[i] += __shfl_xor_sync(kFullWarpMask, sum[r].x[i], distance);
      }
    }
  }
  const int warp = static_cast<int>(threadIdx.x) / kWarpThreads;
  const bool first_lanes = threadIdx.x % kWarpThreads < kLanes;
  for (int turn = 0; turn < kWarps; ++turn) {
    if (warp == turn && first_lanes && inside) {
#pragma unroll
      for (int r = 0; r < kQueries; ++r) {
        float4 low = make_float4(sum[r].x[0], sum[r].x[1], sum[r].x[2], sum[r].x[3]);
        float4 high = make_float4(sum[r].x[4], sum[r].x[5], sum[r].x[6], sum[r].x[7]);
        const int slot = (r * kLanes + lane) * 2;
        if (turn > 0) {
          const float4 a = partial[slot], b = partial[slot + 1];
          low = make_float4(a.x + low.x, a.y + low.y, a.z + low.z, a.w + low.w);
          high = make_float4(b.x + high.x, b.y + high.y, b.z + high.z, b.w + high.w);
        }
        if (turn < kWarps - 1) {
          partial[slot] = low;
          partial[slot + 1] = high;
        } else if (rows.Has(r)) {
          float* const to = sums + (rows.Index(r) * n_chunks + blockIdx.x) * values.head_dim + at;
          reinterpret_cast<float4*>(to)[0] = low;
          reinterpret_cast<float4*>(to)[1] = high;
        }
      }
    }
    if (turn < kWarps - 1) __syncthreads();
  }
}

struct Scoring {
  int n_heads;
  float scale;
  float soft_cap;
  int window;  // WindowOrAll
  Bias bias;
  bool sees_encoder;
  // Rows see all pages that their segments share. Windows are short, and an encoder's text is
  // another's.
  __device__ bool MaySharePages() const { return window == kNoWindow && !sees_encoder; }
};

// Grid: chunks, KV heads, and for every segment n_tiles tiles of kQueries rows. Where segments
// share the chunk, the blocks of the first of them have the tiles of all, one after the other, so
// that keys and values come from memory once; for those behind they lie in a cache.
template <typename CacheRows, int kLanes, int kQueries>
__global__ void __launch_bounds__(kThreads)
    attend_chunk_kernel(GpuKvLayer kv, GpuPass pass, int n_tiles, Scoring scoring, const float* q,
                        float* sums, float2* norms) {
  SHARED_ARRAY(float, scores, kQueries* kChunk);
  SHARED_ARRAY(float4, partial, kQueries * kLanes * 2);
  SHARED_ARRAY(int, first_slots, kChunkPages);
  SHARED_ARRAY(int, tokens, kQueries);
  SHARED_ARRAY(int, heads, kQueries);
  SHARED_ARRAY(int, positions, kQueries);
  const int leader = static_cast<int>(blockIdx.z) / n_tiles;
  const bool all = scoring.sees_encoder;
  const Sharing sharing{pass, static_cast<int>(blockIdx.x), scoring.MaySharePages()};
  if (sharing.LeaderOf(leader) != leader) return;
  const GpuPassSegment segment = pass.segments[leader];
  const int group = scoring.n_heads / static_cast<int>(kv.n_kv_heads);
  const int kv_head = static_cast<int>(blockIdx.y);
  const Rows rows{tokens, heads, positions, scoring.n_heads};
  const int begin = static_cast<int>(blockIdx.x) * kChunk;
  const int end = all ? segment.n_encoder : segment.first_position + segment.n_rows;
  const int n_positions = min(kChunk, end - begin);
  if (n_positions <= 0) return;
  const Sight sight{begin, scoring.window, scoring.soft_cap, all, scoring.bias};
  const KvRows<CacheRows> chunk = RowsOf<CacheRows>(kv, kv_head);
  const int n_chunks = static_cast<int>(gridDim.x);
  for (int tile = static_cast<int>(blockIdx.z) % n_tiles;; tile += n_tiles) {
    const int first = tile * kQueries;
    const int n =
        ListRows<kQueries>(sharing, leader, group, kv_head, first, tokens, heads, positions);
    if (first >= n) return;
    // The segment's first row looks back farthest; with a window no other segment is here.
    const int own = segment.first_position + first / group - begin;
    if (own - scoring.window >= kChunk - 1) return;
    const int first_seen = max(own - scoring.window + 1, 0);
    const ReadPart part{first_seen - first_seen % kGpuKvPageTokens, n_positions};
    const int page_begin = static_cast<int>(threadIdx.x) * kGpuKvPageTokens;
    if (page_begin >= part.first && page_begin < part.end) {
      const int first_page = all ? segment.encoder_page : segment.first_page;
      first_slots[threadIdx.x] = SlotOf(pass, first_page, begin + page_begin);
    }
    __syncthreads();
    const ChunkSlots slots{first_slots, BranchOf(pass, segment, all, begin)};
    ScoreChunk<kLanes, kQueries>(rows, chunk.keys, slots, part, q, scoring.scale, scores);
    __syncthreads();
    WeighChunk<kQueries>(rows, sight, n_positions, n_chunks, norms, scores);
    __syncthreads();
    SumValues<kLanes, kQueries>(rows, chunk.values, slots, part, n_chunks, scores, partial, sums);
    __syncthreads();  // the next tile's rows take their places
  }
}

// A block per head and token: out = sum over the chunks that it sees of e^(m_c - m) sums_c, by the
// sum of their weights. Each warp finds m and that sum for itself, in the same order.
__global__ void __launch_bounds__(kThreads)
    merge_chunks_kernel(GpuPass pass, int n_chunks_made, Scoring scoring, int head_dim,
                        const float* sums, const float2* norms, float* out) {
  DYNAMIC_SHARED(float, weights, 0, n_chunks_made);
  const int token = static_cast<int>(blockIdx.y);
  const int64_t row = int64_t{token} * gridDim.x + blockIdx.x;
  const GpuPassRow& own = pass.rows[token];
  const int end = scoring.sees_encoder ? own.n_encoder : own.position + 1;
  const int n_chunks = (end + kChunk - 1) / kChunk;
  const int first_chunk = max(end - scoring.window, 0) / kChunk;
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  norms += row * n_chunks_made;
  sums += row * n_chunks_made * head_dim;
  float m = -INFINITY;
  for (int c = first_chunk + lane; c < n_chunks; c += kWarpThreads) m = fmaxf(m, norms[c].x);
  m = WarpMax(m);
  float sum = 0;
  for (int c = first_chunk + lane; c < n_chunks; c += kWarpThreads) {
    const float2 norm = norms[c];
    const float weight = expf(norm.x - m);
    if (threadIdx.x < kWarpThreads) weights[c] = weight;
    sum = fmaf(weight, norm.y, sum);
  }
  sum = WarpSum(sum);
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < head_dim; i += kThreads) {
    float y = 0;
#pragma unroll 4
    for (int c = first_chunk; c < n_chunks; ++c)
      y = fmaf(weights[c], sums[int64_t{c} * head_dim + i], y);
    out[row * head_dim + i] = y / sum;
  }
}

int64_t NumChunks(int64_t max_positions) { return (max_positions + kChunk - 1) / kChunk; }

struct Call {
  Stream& stream;
  const GpuKvLayer& kv;
  const GpuPass& pass;
  Scoring scoring;
  int64_t n_chunks;
  const float* q;
  float* sums;
  float2* norms;

  // Returns the queries that the longest segment has for a KV head.
  int64_t n_queries() const { return pass.max_segment_rows * (scoring.n_heads / kv.n_kv_heads); }
};

template <typename CacheRows, int kLanes, int kQueries>
void LaunchChunks(const Call& call) {
  const int64_t n_tiles = (call.n_queries() + kQueries - 1) / kQueries;
  const dim3 grid(static_cast<unsigned>(call.n_chunks), static_cast<unsigned>(call.kv.n_kv_heads),
                  static_cast<unsigned>(call.pass.n_segments * n_tiles));
  Launch(KERNEL(attend_chunk_kernel<CacheRows, kLanes, kQueries>),
         {.grid = grid, .block = kThreads, .stream = call.stream}, call.kv, call.pass, n_tiles,
         call.scoring, call.q, call.sums, call.norms);
}

template <typename CacheRows, int kLanes>
void ChooseQueries(const Call& call) {
  if (call.n_queries() == 1) return LaunchChunks<CacheRows, kLanes, 1>(call);
  if (call.n_queries() <= 4) return LaunchChunks<CacheRows, kLanes, 4>(call);
  return LaunchChunks<CacheRows, kLanes, 8>(call);
}

template <typename CacheRows>
void ChooseLanes(const Call& call) {
  if (call.kv.head_dim <= 8 * kLaneElems) return ChooseQueries<CacheRows, 8>(call);
  if (call.kv.head_dim <= 16 * kLaneElems) return ChooseQueries<CacheRows, 16>(call);
  return ChooseQueries<CacheRows, 32>(call);
}

}  // namespace

uint64_t GpuAttendScratchBytes(int64_t max_rows, int64_t n_heads, int64_t head_dim,
                               int64_t max_positions) {
  const int64_t n = max_rows * n_heads * NumChunks(max_positions);
  return static_cast<uint64_t>(n) *
         (static_cast<uint64_t>(head_dim) * sizeof(float) + sizeof(float2));
}

void GpuAttendFew(Stream& stream, const GpuKvLayer& kv, const GpuPass& pass,
                  const GpuAttention& attention, int64_t max_positions, const float* q,
                  void* scratch, float* out) {
  if (pass.n_rows == 0) return;
  const int64_t n_heads = attention.n_heads;
  CHECK(kv.head_dim % kLaneElems == 0 && kv.head_dim <= kMaxGpuHeadDim);
  CHECK(n_heads % kv.n_kv_heads == 0);
  const int64_t n_chunks = NumChunks(max_positions);
  auto* const sums = static_cast<float*>(scratch);
  auto* const norms =
      reinterpret_cast<float2*>(sums + pass.n_rows * n_heads * n_chunks * kv.head_dim);
  const Scoring scoring{static_cast<int>(n_heads),
                        attention.scale,
                        attention.soft_cap,
                        WindowOrAll(attention.window),
                        {attention.bias, static_cast<int>(attention.max_distance)},
                        attention.sees_encoder};
  const Call call{stream, kv, pass, scoring, n_chunks, q, sums, norms};
  kv.dtype == DType::kF16 ? ChooseLanes<F16Rows>(call) : ChooseLanes<Q8Rows>(call);
  const dim3 grid(static_cast<unsigned>(n_heads), static_cast<unsigned>(pass.n_rows));
  Launch(KERNEL(merge_chunks_kernel),
         {.grid = grid,
          .block = kThreads,
          .shared_bytes = static_cast<size_t>(n_chunks) * sizeof(float),
          .stream = stream},
         pass, n_chunks, scoring, kv.head_dim, sums, norms, out);
}

}  // namespace thermocline
