#include "gpu_kernels/base/launch.h"
#include "gpu_kernels/base/warp_reduce.h"
#include "gpu_kernels/tokens/attention.h"
#include "gpu_kernels/tokens/kv_rows.h"
#include "gpu_kernels/tokens/soft_cap.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {

constexpr int kThreads = 128;
// Queries of a block: pairs of a token and a head of one KV head.
constexpr int kRows = kAttendManyQueries;
// Softmax: so many lanes share a row.
constexpr int kRowLanes = kThreads / kRows;
// Sum of values: a thread has 4 rows and every 16th group of 4 columns.
constexpr int kThreadRows = 4;
constexpr int kColumnThreads = 16;

// Shared memory of a block for heads of up to kDim elements. Rows of q and of a tile of keys or
// values are float4s, one more than they need so that neighbours lie in different banks; weights
// are transposed: (positions, rows).
template <int kDim>
struct Tile {
  static constexpr int kPositions = kDim > 128 ? 16 : 32;
  static_assert(kGpuKvPageTokens % kPositions == 0, "a tile lies in one page");
  static constexpr int kStride = kDim / 4 + 1;  // float4s
  static constexpr int kWeightStride = kRows + 4;
  static constexpr size_t kQueryFloats4 = size_t{kRows} * kStride;
  static constexpr size_t kKvFloats4 = size_t{kPositions} * kStride;
  static constexpr size_t kWeights = size_t{kPositions} * kWeightStride;
  static constexpr size_t kKvAt = kQueryFloats4 * sizeof(float4);
  static constexpr size_t kWeightsAt = kKvAt + kKvFloats4 * sizeof(float4);
  static constexpr size_t kFactorsAt = kWeightsAt + kWeights * sizeof(float);
  static constexpr size_t kBytes = kFactorsAt + kRows * sizeof(float);
};

// Which query of a segment a row is; rows behind the last one see no more than position 0 and are
// not written.
struct Queries {
  int first;
  int n;
  int first_row;  // the segment's in the pass
  int group;
  int kv_head;
  int n_heads;
  int first_position;
  int window;     // WindowOrAll
  int n_encoder;  // positions that every row sees; 0: those up to its own
  __device__ bool Has(int row) const { return first + row < n; }
  __device__ int Position(int row) const { return first_position + (first + row) / group; }
  __device__ int Head(int row) const { return kv_head * group + (first + row) % group; }
  __device__ int LastSeen(int row) const {
    if (!Has(row)) return 0;
    return n_encoder > 0 ? n_encoder - 1 : Position(row);
  }
  __device__ int FirstSeen(int row) const { return max(LastSeen(row) + 1 - window, 0); }
  __device__ int64_t Index(int row) const {
    return int64_t{first_row + (first + row) / group} * n_heads + Head(row);
  }
};

template <int kDim>
__device__ void LoadQueries(const Queries& queries, int head_dim, float scale, const float* q,
                            const SharedSpan<float4>& tile) {
  const int n_vectors = head_dim / 4;
  for (int i = static_cast<int>(threadIdx.x); i < kRows * n_vectors; i += kThreads) {
    const int row = i / n_vectors;
    float4 v = make_float4(0, 0, 0, 0);
    if (queries.Has(row)) {
      const float* const from = q + queries.Index(row) * head_dim;
      v = reinterpret_cast<const float4*>(from)[i % n_vectors];
    }
    tile[row * Tile<kDim>::kStride + i % n_vectors] =
        make_float4(v.x * scale, v.y * scale, v.z * scale, v.w * scale);
  }
}

// Where the positions of a tile lie: behind each other in a page, or as a branch says.
struct TileSlots {
  int first;
  BranchSlots branch;
  __device__ int Of(int p) const { return branch.Has(p) ? branch.Of(p) : first + p; }
};

// Rows behind n_positions are zero.
template <int kDim, typename Rows>
__device__ void LoadTile(const Rows& rows, const TileSlots& slots, int n_positions,
                         const SharedSpan<float4>& tile) {
  const int per_row = static_cast<int>(rows.head_dim) / kLaneElems;
  for (int i = static_cast<int>(threadIdx.x); i < Tile<kDim>::kPositions * per_row; i += kThreads) {
    const int row = i / per_row;
    const int at = i % per_row;
    Eight e = {};
    if (row < n_positions) e = rows.Load(slots.Of(row), at * kLaneElems);
    const int slot = row * Tile<kDim>::kStride + at * 2;
    tile[slot] = make_float4(e.x[0], e.x[1], e.x[2], e.x[3]);
    tile[slot + 1] = make_float4(e.x[4], e.x[5], e.x[6], e.x[7]);
  }
}

__device__ float Dot(const float4& a, const float4& b, float sum) {
  return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, sum))));
}

// Returns what is added to the score of a row and a position that it sees.
__device__ float BiasOf(const GpuAttention& attention, const Queries& queries, int row,
                        int position) {
  if (attention.bias == nullptr) return 0.0f;
  const int most = static_cast<int>(attention.max_distance);
  const int distance = max(-most, min(position - queries.Position(row), most));
  return attention.bias[queries.Head(row) * (2 * most + 1) + most + distance];
}

// weights[p, row] = query row . key p, capped, and the bias, or -inf where the row does not see it.
// A thread has two rows and every eighth position.
template <int kDim>
__device__ void ScoreTile(const Queries& queries, int begin, int head_dim,
                          const GpuAttention& attention, const SharedSpan<float4>& q,
                          const SharedSpan<float4>& keys, const SharedSpan<float>& weights) {
  using T = Tile<kDim>;
  constexpr int kThreadPositions = T::kPositions / 8;
  const int row = static_cast<int>(threadIdx.x) / 8;
  const int position = static_cast<int>(threadIdx.x) % 8;
  float score[2][kThreadPositions] = {};
  for (int i = 0; i < head_dim / 4; ++i) {
    const float4 a = q[row * T::kStride + i];
    const float4 b = q[(row + kRows / 2) * T::kStride + i];
#pragma unroll
    for (int j = 0; j < kThreadPositions; ++j) {
      const float4 key = keys[(position + 8 * j) * T::kStride + i];
      score[0][j] = Dot(a, key, score[0][j]);
      score[1][j] = Dot(b, key, score[1][j]);
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int r = row + half * kRows / 2;
    const int first = queries.FirstSeen(r) - begin;
    const int last = queries.LastSeen(r) - begin;
#pragma unroll
    for (int j = 0; j < kThreadPositions; ++j) {
      const int p = position + 8 * j;
      const bool seen = p >= first && p <= last;
      float weight = -INFINITY;
      if (seen && queries.Has(r)) {
        weight = SoftCapped(score[half][j], attention.soft_cap) +
                 BiasOf(attention, queries, r, begin + p);
      } else if (seen) {
        weight = 0;
      }
      weights[p * T::kWeightStride + r] = weight;
    }
  }
}

// Holds the running maximum of a row that kRowLanes lanes share, and this lane's part of its sum.
struct Running {
  float m = -INFINITY;
  float sum = 0;
};

// Scores become e^(s - m) with the maximum so far; factors[row] takes what was summed before to it.
template <int kDim>
__device__ void WeighTile(Running& running, const SharedSpan<float>& weights,
                          const SharedSpan<float>& factors) {
  using T = Tile<kDim>;
  const int row = static_cast<int>(threadIdx.x) / kRowLanes;
  const int lane = static_cast<int>(threadIdx.x) % kRowLanes;
  float m = running.m;
  for (int p = lane; p < T::kPositions; p += kRowLanes) {
    m = fmaxf(m, static_cast<float>(weights[p * T::kWeightStride + row]));
  }
  for (int distance = kRowLanes / 2; distance > 0; distance /= 2) {
    m = fmaxf(m, __shfl_xor_sync(kFullWarpMask, m, distance));
  }
  // Of a row that has seen nothing yet, -inf - -inf would be no number.
  const float base = m == -INFINITY ? 0.0f : m;
  const float factor = expf(running.m - base);
  float sum = running.sum * factor;
  for (int p = lane; p < T::kPositions; p += kRowLanes) {
    const float weight = expf(weights[p * T::kWeightStride + row] - base);
    weights[p * T::kWeightStride + row] = weight;
    sum += weight;
  }
  running = {m, sum};
  if (lane == 0) factors[row] = factor;
}

// A thread's part of the output: rows row, ..., row + 3 and columns 4 (column + 16 j) + 0 to 3.
template <int kDim>
struct Sums {
  static constexpr int kVectors = kDim / 4 / kColumnThreads;
  float4 sum[kThreadRows][kVectors] = {};
};

template <int kDim>
__device__ void AddTile(int head_dim, const SharedSpan<float4>& values,
                        const SharedSpan<float>& weights, const SharedSpan<float>& factors,
                        Sums<kDim>& sums) {
  using T = Tile<kDim>;
  const int row = static_cast<int>(threadIdx.x) / kColumnThreads * kThreadRows;
  const int column = static_cast<int>(threadIdx.x) % kColumnThreads;
#pragma unroll
  for (int r = 0; r < kThreadRows; ++r) {
    const float factor = factors[row + r];
#pragma unroll
    for (int j = 0; j < Sums<kDim>::kVectors; ++j) {
      float4& s = sums.sum[r][j];
      s = make_float4(s.x * factor, s.y * factor, s.z * factor, s.w * factor);
    }
  }
  for (int p = 0; p < T::kPositions; ++p) {
    float4 value[Sums<kDim>::kVectors];
#pragma unroll
    for (int j = 0; j < Sums<kDim>::kVectors; ++j) {
      const int at = column + kColumnThreads * j;
      value[j] = make_float4(0, 0, 0, 0);
      if (at < head_dim / 4) value[j] = values[p * T::kStride + at];
    }
#pragma unroll
    for (int r = 0; r < kThreadRows; ++r) {
      const float w = weights[p * T::kWeightStride + row + r];
#pragma unroll
      for (int j = 0; j < Sums<kDim>::kVectors; ++j) {
        float4& s = sums.sum[r][j];
        s = make_float4(fmaf(w, value[j].x, s.x), fmaf(w, value[j].y, s.y),
                        fmaf(w, value[j].z, s.z), fmaf(w, value[j].w, s.w));
      }
    }
  }
}

// totals: the rows' sums of weights.
template <int kDim>
__device__ void StoreSums(const Queries& queries, int head_dim, const Sums<kDim>& sums,
                          const SharedSpan<float>& totals, float* out) {
  const int first = static_cast<int>(threadIdx.x) / kColumnThreads * kThreadRows;
  const int column = static_cast<int>(threadIdx.x) % kColumnThreads;
#pragma unroll
  for (int r = 0; r < kThreadRows; ++r) {
    const int row = first + r;
    if (!queries.Has(row)) continue;
    const float total = totals[row];
    auto* const to = reinterpret_cast<float4*>(out + queries.Index(row) * head_dim);
#pragma unroll
    for (int j = 0; j < Sums<kDim>::kVectors; ++j) {
      const float4& s = sums.sum[r][j];
      const int at = column + kColumnThreads * j;
      if (at < head_dim / 4) {
        to[at] = make_float4(s.x / total, s.y / total, s.z / total, s.w / total);
      }
    }
  }
}

// Grid: for every segment n_tiles tiles of kRows queries; KV heads.
template <typename CacheRows, int kDim>
__global__ void __launch_bounds__(kThreads)
    attend_tiles_kernel(GpuKvLayer kv, GpuPass pass, int n_tiles, GpuAttention attention,
                        int window, const float* q, float* out) {
  using T = Tile<kDim>;
  DYNAMIC_SHARED(float4, q_tile, 0, T::kQueryFloats4);
  DYNAMIC_SHARED(float4, kv_tile, T::kKvAt, T::kKvFloats4);
  DYNAMIC_SHARED(float, weights, T::kWeightsAt, T::kWeights);
  DYNAMIC_SHARED(float, factors, T::kFactorsAt, kRows);
  const int x = static_cast<int>(blockIdx.x);
  const GpuPassSegment segment = pass.segments[x / n_tiles];
  const int head_dim = static_cast<int>(kv.head_dim);
  const int n_heads = static_cast<int>(attention.n_heads);
  const int group = n_heads / static_cast<int>(kv.n_kv_heads);
  const int kv_head = static_cast<int>(blockIdx.y);
  const Queries queries{x % n_tiles * kRows,
                        segment.n_rows * group,
                        segment.first_row,
                        group,
                        kv_head,
                        n_heads,
                        segment.first_position,
                        window,
                        attention.sees_encoder ? segment.n_encoder : 0};
  if (!queries.Has(0)) return;
  const int last_row = min(kRows, queries.n - queries.first) - 1;
  const int n_positions = queries.LastSeen(last_row) + 1;
  LoadQueries<kDim>(queries, head_dim, attention.scale, q, q_tile);
  const KvRows<CacheRows> rows = RowsOf<CacheRows>(kv, kv_head);
  Running running;
  Sums<kDim> sums;
  // Its first row looks back farthest.
  const int first_page = attention.sees_encoder ? segment.encoder_page : segment.first_page;
  const int first_tile = queries.FirstSeen(0) / T::kPositions * T::kPositions;
  for (int begin = first_tile; begin < n_positions; begin += T::kPositions) {
    const TileSlots slots{SlotOf(pass, first_page, begin),
                          BranchOf(pass, segment, attention.sees_encoder, begin)};
    LoadTile<kDim>(rows.keys, slots, n_positions - begin, kv_tile);
    __syncthreads();
    ScoreTile<kDim>(queries, begin, head_dim, attention, q_tile, kv_tile, weights);
    __syncthreads();
    WeighTile<kDim>(running, weights, factors);
    LoadTile<kDim>(rows.values, slots, n_positions - begin, kv_tile);
    __syncthreads();
    AddTile<kDim>(head_dim, kv_tile, weights, factors, sums);
    __syncthreads();
  }
  for (int distance = kRowLanes / 2; distance > 0; distance /= 2) {
    running.sum += __shfl_xor_sync(kFullWarpMask, running.sum, distance);
  }
  if (threadIdx.x % kRowLanes == 0) factors[threadIdx.x / kRowLanes] = running.sum;
  __syncthreads();
  StoreSums<kDim>(queries, head_dim, sums, factors, out);
}

}  // namespace

void GpuAttendMany(Stream& stream, const GpuKvLayer& kv, const GpuPass& pass,
                   const GpuAttention& attention, const float* q, float* out) {
  if (pass.n_rows == 0) return;
  const int64_t n_heads = attention.n_heads;
  CHECK(kv.head_dim % kLaneElems == 0 && kv.head_dim <= kMaxGpuHeadDim);
  CHECK(n_heads % kv.n_kv_heads == 0);
  const int64_t n_queries = pass.max_segment_rows * (n_heads / kv.n_kv_heads);
  const int64_t n_tiles = (n_queries + kRows - 1) / kRows;
  const dim3 grid(static_cast<unsigned>(pass.n_segments * n_tiles),
                  static_cast<unsigned>(kv.n_kv_heads));
  const auto launch = [&](const auto& kernel, size_t shared_bytes) {
    Launch(kernel,
           {.grid = grid, .block = kThreads, .shared_bytes = shared_bytes, .stream = stream}, kv,
           pass, n_tiles, attention, WindowOrAll(attention.window), q, out);
  };
  const bool f16 = kv.dtype == DType::kF16;
  if (kv.head_dim <= 64) {
    launch(f16 ? KERNEL(attend_tiles_kernel<F16Rows, 64>) : KERNEL(attend_tiles_kernel<Q8Rows, 64>),
           Tile<64>::kBytes);
  } else if (kv.head_dim <= 128) {
    launch(
        f16 ? KERNEL(attend_tiles_kernel<F16Rows, 128>) : KERNEL(attend_tiles_kernel<Q8Rows, 128>),
        Tile<128>::kBytes);
  } else {
    launch(
        f16 ? KERNEL(attend_tiles_kernel<F16Rows, 256>) : KERNEL(attend_tiles_kernel<Q8Rows, 256>),
        Tile<256>::kBytes);
  }
}

}  // namespace thermocline
