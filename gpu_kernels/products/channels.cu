#include <algorithm>

#include "gpu_kernels/base/launch.h"
#include "gpu_kernels/products/channels.h"
#include "gpu_kernels/products/column_sums.h"
#include "gpu_kernels/products/cut_value.h"
#include "gpu_kernels/products/dispatch.h"
#include "runtime/core/checked_math.h"
#include "runtime/core/error.h"

namespace thermocline {
namespace {

// ---- lists ----

constexpr int kListWarps = 32;
constexpr int kListThreads = kListWarps * kWarpThreads;

struct ListOp {
  const float* x;
  GpuRowCut cut;
  int64_t n_tokens;
  int64_t n;
  GpuListMemory list;
  int32_t* kept;
  int32_t* listed;
};

// One block; it takes one token after the other. Every warp takes a stretch of channels: it counts
// what is kept there, learns how many come before, and goes through its stretch again to write.
__global__ void __launch_bounds__(kListThreads) list_channels_kernel(const ListOp op) {
  SHARED_ARRAY(int, counts, kListWarps);
  const int warp = static_cast<int>(threadIdx.x) / kWarpThreads;
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int64_t stretch = (op.n + kListThreads - 1) / kListThreads * kWarpThreads;
  const int64_t begin = warp * stretch;
  const int64_t end = min(begin + stretch, op.n);
  int kept = 0;
  int listed = 0;
  for (int64_t t = 0; t < op.n_tokens; ++t) {
    const float* const x = op.x + t * op.n;
    const bool cut = IsCut(op.cut, t);
    const bool drops = cut && op.cut.least > 0;
    const auto value_of = [&](int64_t j) { return drops ? CutValue(op.cut, j, x[j]) : x[j]; };
    int count = 0;
    for (int64_t at = begin; at < end; at += kWarpThreads) {
      const int64_t j = at + lane;
      count += __popc(__ballot_sync(kFullWarpMask, j < end && (!drops || value_of(j) != 0)));
    }
    __syncthreads();  // behind who still reads the last token's
    if (lane == 0) counts[warp] = count;
    __syncthreads();
    const int of_lane = counts[lane];
    int before = 0;
    int total = 0;
    for (int w = 0; w < kListWarps; ++w) {
      const int of_warp = __shfl_sync(kFullWarpMask, of_lane, w);
      if (w < warp) before += of_warp;
      total += of_warp;
    }
    for (int64_t at = begin; at < end; at += kWarpThreads) {
      const int64_t j = at + lane;
      const float value = j < end ? value_of(j) : 0.0f;
      const bool keeps = j < end && (!drops || value != 0);
      const unsigned mask = __ballot_sync(kFullWarpMask, keeps);
      const int64_t to = t * op.n + before + __popc(mask & ((1u << lane) - 1));
      if (keeps) {
        op.list.rows[to] = static_cast<int32_t>(j);
        op.list.values[to] = value;
      }
      before += __popc(mask);
    }
    if (threadIdx.x == 0) op.list.counts[t] = total;
    kept += cut ? total : 0;
    listed += total;
  }
  if (threadIdx.x != 0) return;
  *op.kept = kept;
  if (op.listed != nullptr) *op.listed = listed;
}

// ---- products ----

constexpr int kThreads = kColumnWarps * kWarpThreads;

struct ColumnsOp {
  RowsToAdd rows;
  int64_t n;            // channels
  GpuChannelList list;  // values: x where there is no list
  float* partial;       // (n_tokens, n_chunks, padded_cols)
};

// blockIdx.x is the strip of columns, blockIdx.y the chunk of the token's list, blockIdx.z the
// token. Chunks, and the warps' shares of one, are as even as they can be.
template <DType kType>
__global__ void __launch_bounds__(kThreads, MinBlocks(1, kThreads))
    columns_kernel(const ColumnsOp op) {
  constexpr int kElements = LaneElements(kType);
  const int warp = static_cast<int>(threadIdx.x) / kWarpThreads;
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int64_t token = blockIdx.z;
  const int64_t count = op.list.counts == nullptr ? op.n : op.list.counts[token];
  const int64_t n_shares = int64_t{gridDim.y} * kColumnWarps;
  const int64_t share = int64_t{blockIdx.y} * kColumnWarps + warp;
  const int64_t begin = count * share / n_shares;
  const int64_t end = count * (share + 1) / n_shares;
  const int64_t last_step = op.rows.padded_cols / kElements - 1;
  // Lanes behind the last column read the last column's weights.
  const int64_t lane_step = min(int64_t{blockIdx.x} * kWarpThreads + lane, last_step);
  float sums[1][kElements] = {};
  for (int64_t at = begin; at < end; at += kWarpThreads) {
    const bool mine = at + lane < end;
    const int64_t entry = token * op.n + at + lane;
    const float h[1] = {mine ? op.list.values[entry] : 0.0f};
    const int own = !mine                     ? 0
                    : op.list.rows == nullptr ? static_cast<int>(at) + lane
                                              : op.list.rows[entry];
    const auto row_of = [own](int source) {
      return static_cast<int64_t>(__shfl_sync(kFullWarpMask, own, source));
    };
    const unsigned mask = __ballot_sync(kFullWarpMask, mine);
    AddRows<kType, 1>(op.rows, mask, h, row_of, lane_step, sums);
  }
  float* const out = op.partial + (token * gridDim.y + blockIdx.y) * op.rows.padded_cols;
  StorePartial<kType, 1>(out, op.rows.padded_cols, 1, sums);
}

struct MergeOp {
  const float* partial;  // (n_tokens, n_chunks, padded_cols)
  int64_t n_chunks;
  int64_t padded_cols;
  const float* bias;  // or null
  float* y;           // (n_tokens, cols)
  int64_t cols;
};

// A thread per column adds the chunks' sums in their order; blockIdx.y is the token.
__global__ void __launch_bounds__(kThreads) merge_columns_kernel(const MergeOp op) {
  const int64_t col = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (col >= op.cols) return;
  const float* const partial = op.partial + blockIdx.y * op.n_chunks * op.padded_cols + col;
  float sum = 0;
#pragma unroll 4
  for (int64_t chunk = 0; chunk < op.n_chunks; ++chunk) sum += partial[chunk * op.padded_cols];
  if (op.bias != nullptr) sum += op.bias[col];
  op.y[blockIdx.y * op.cols + col] = sum;
}

// How a product is cut up, which follows from its shape and type alone: enough blocks to keep a
// GPU's memory busy, as long as a warp may still find some channels in its share.
struct ColumnsPlan {
  int64_t padded_cols;
  int64_t n_strips;
  int64_t n_chunks;

  explicit ColumnsPlan(const GpuMatrix& w)
      : padded_cols(GpuPaddedCols(w.cols)), n_strips(CeilDiv(padded_cols, StripCols(w.dtype))) {
    constexpr int64_t kEnoughBlocks = 256;
    constexpr int64_t kLeastChannels = 64;  // of a chunk, with all of them read
    n_chunks = std::clamp<int64_t>(CeilDiv(kEnoughBlocks, std::max<int64_t>(n_strips, 1)), 1,
                                   std::max<int64_t>(CeilDiv(w.rows, kLeastChannels), 1));
  }
};

// ---- batches ----

// A block per token.
__global__ void __launch_bounds__(kListThreads)
    cut_channels_kernel(const float* x, const GpuRowCut cut, int64_t n, float* out,
                        int32_t* counts) {
  const int64_t token = blockIdx.x;
  const bool is_cut = IsCut(cut, token);
  int count = 0;
  for (int64_t first = 0; first < n; first += kListThreads) {
    const int64_t j = first + threadIdx.x;
    float value = 0;
    if (j < n) {
      value = x[token * n + j];
      if (is_cut) value = CutValue(cut, j, value);
      out[token * n + j] = value;
    }
    count += __syncthreads_count(is_cut && value != 0);
  }
  if (threadIdx.x == 0) counts[token] = count;
}

// One warp.
__global__ void __launch_bounds__(kWarpThreads)
    sum_counts_kernel(const int32_t* counts, int64_t n_tokens, int32_t* sum) {
  int own = 0;
  for (int64_t t = threadIdx.x; t < n_tokens; t += kWarpThreads) own += counts[t];
  own = WarpSum(own);
  if (threadIdx.x == 0) *sum = own;
}

}  // namespace

void GpuListChannels(Stream& stream, const float* x, const GpuRowCut& cut, int64_t n_tokens,
                     int64_t n, const GpuListMemory& list, int32_t* kept, int32_t* listed) {
  Launch(KERNEL(list_channels_kernel), {.grid = 1, .block = kListThreads, .stream = stream},
         ListOp{x, cut, n_tokens, n, list, kept, listed});
}

uint64_t GpuColumnsBytes(const GpuMatrix& w, int64_t n_tokens) {
  const ColumnsPlan plan(w);
  return static_cast<uint64_t>(n_tokens * plan.n_chunks * plan.padded_cols) * sizeof(float);
}

void GpuAddColumns(Stream& stream, const GpuMatrix& w, const GpuChannelList& list, int64_t n_tokens,
                   const float* bias, void* workspace, float* y) {
  CHECK((list.rows == nullptr) == (list.counts == nullptr));
  if (n_tokens == 0 || w.cols == 0) return;
  const ColumnsPlan plan(w);
  auto* const partial = static_cast<float*>(workspace);
  const ColumnsOp op{{w.data, w.row_bytes, plan.padded_cols}, w.rows, list, partial};
  const dim3 grid(static_cast<unsigned>(plan.n_strips), static_cast<unsigned>(plan.n_chunks),
                  static_cast<unsigned>(n_tokens));
  VisitGpuType(w.dtype, [&](auto type) {
    Launch(KERNEL(columns_kernel<type()>), {.grid = grid, .block = kThreads, .stream = stream}, op);
  });
  const dim3 merge_grid(static_cast<unsigned>(CeilDiv(w.cols, kThreads)),
                        static_cast<unsigned>(n_tokens));
  Launch(KERNEL(merge_columns_kernel), {.grid = merge_grid, .block = kThreads, .stream = stream},
         MergeOp{partial, plan.n_chunks, plan.padded_cols, bias, y, w.cols});
}

void GpuCutChannels(Stream& stream, const float* x, const GpuRowCut& cut, int64_t n_tokens,
                    int64_t n, float* out, int32_t* counts, int32_t* kept) {
  if (n_tokens == 0) return;
  Launch(KERNEL(cut_channels_kernel),
         {.grid = static_cast<unsigned>(n_tokens), .block = kListThreads, .stream = stream}, x, cut,
         n, out, counts);
  Launch(KERNEL(sum_counts_kernel), {.grid = 1, .block = kWarpThreads, .stream = stream}, counts,
         n_tokens, kept);
}

}  // namespace thermocline
